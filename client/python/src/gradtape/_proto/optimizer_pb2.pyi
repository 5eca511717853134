from . import op_pb2 as _op_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateOptimizer(_message.Message):
    __slots__ = ("optimizer", "name", "hyperparameters", "learning_rate_schedule")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    optimizer: int
    name: str
    hyperparameters: _containers.RepeatedCompositeFieldContainer[_op_pb2.Attribute]
    learning_rate_schedule: LearningRateSchedule
    def __init__(self, optimizer: _Optional[int] = ..., name: _Optional[str] = ..., hyperparameters: _Optional[_Iterable[_Union[_op_pb2.Attribute, _Mapping]]] = ..., learning_rate_schedule: _Optional[_Union[LearningRateSchedule, _Mapping]] = ...) -> None: ...

class LearningRateSchedule(_message.Message):
    __slots__ = ("name", "attributes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    attributes: _containers.RepeatedCompositeFieldContainer[_op_pb2.Attribute]
    def __init__(self, name: _Optional[str] = ..., attributes: _Optional[_Iterable[_Union[_op_pb2.Attribute, _Mapping]]] = ...) -> None: ...

class GradientPair(_message.Message):
    __slots__ = ("variable", "gradient", "indices", "exclude_from_weight_decay", "exclude_from_orthogonalization")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FROM_WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FROM_ORTHOGONALIZATION_FIELD_NUMBER: _ClassVar[int]
    variable: int
    gradient: int
    indices: int
    exclude_from_weight_decay: bool
    exclude_from_orthogonalization: bool
    def __init__(self, variable: _Optional[int] = ..., gradient: _Optional[int] = ..., indices: _Optional[int] = ..., exclude_from_weight_decay: bool = ..., exclude_from_orthogonalization: bool = ...) -> None: ...

class ApplyOptimizer(_message.Message):
    __slots__ = ("optimizer", "pairs")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    optimizer: int
    pairs: _containers.RepeatedCompositeFieldContainer[GradientPair]
    def __init__(self, optimizer: _Optional[int] = ..., pairs: _Optional[_Iterable[_Union[GradientPair, _Mapping]]] = ...) -> None: ...

class SetOptimizer(_message.Message):
    __slots__ = ("optimizer", "hyperparameters", "learning_rate_schedule")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    optimizer: int
    hyperparameters: _containers.RepeatedCompositeFieldContainer[_op_pb2.Attribute]
    learning_rate_schedule: LearningRateSchedule
    def __init__(self, optimizer: _Optional[int] = ..., hyperparameters: _Optional[_Iterable[_Union[_op_pb2.Attribute, _Mapping]]] = ..., learning_rate_schedule: _Optional[_Union[LearningRateSchedule, _Mapping]] = ...) -> None: ...

class ReadOptimizer(_message.Message):
    __slots__ = ("optimizer", "name", "variable", "output")
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    optimizer: int
    name: str
    variable: int
    output: int
    def __init__(self, optimizer: _Optional[int] = ..., name: _Optional[str] = ..., variable: _Optional[int] = ..., output: _Optional[int] = ...) -> None: ...
