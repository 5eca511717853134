from . import op_pb2 as _op_pb2
from . import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttributeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTRIBUTE_TYPE_UNSPECIFIED: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_BOOL: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_INTEGER: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_DOUBLE: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_STRING: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_DATA_TYPE: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_INTEGERS: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_DOUBLES: _ClassVar[AttributeType]

class Differentiability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIFFERENTIABILITY_UNSPECIFIED: _ClassVar[Differentiability]
    DIFFERENTIABILITY_SMOOTH: _ClassVar[Differentiability]
    DIFFERENTIABILITY_ZERO: _ClassVar[Differentiability]
    DIFFERENTIABILITY_NONE: _ClassVar[Differentiability]
ATTRIBUTE_TYPE_UNSPECIFIED: AttributeType
ATTRIBUTE_TYPE_BOOL: AttributeType
ATTRIBUTE_TYPE_INTEGER: AttributeType
ATTRIBUTE_TYPE_DOUBLE: AttributeType
ATTRIBUTE_TYPE_STRING: AttributeType
ATTRIBUTE_TYPE_DATA_TYPE: AttributeType
ATTRIBUTE_TYPE_INTEGERS: AttributeType
ATTRIBUTE_TYPE_DOUBLES: AttributeType
DIFFERENTIABILITY_UNSPECIFIED: Differentiability
DIFFERENTIABILITY_SMOOTH: Differentiability
DIFFERENTIABILITY_ZERO: Differentiability
DIFFERENTIABILITY_NONE: Differentiability

class ListOpsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListOpsResponse(_message.Message):
    __slots__ = ("ops", "next_page_token")
    OPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ops: _containers.RepeatedCompositeFieldContainer[OpInfo]
    next_page_token: str
    def __init__(self, ops: _Optional[_Iterable[_Union[OpInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AttributeInfo(_message.Message):
    __slots__ = ("name", "type", "default_value", "documentation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: AttributeType
    default_value: _op_pb2.Attribute
    documentation: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[AttributeType, str]] = ..., default_value: _Optional[_Union[_op_pb2.Attribute, _Mapping]] = ..., documentation: _Optional[str] = ...) -> None: ...

class OpInfo(_message.Message):
    __slots__ = ("name", "family", "inputs", "variadic", "outputs", "attributes", "dtypes", "differentiability", "summary", "formula")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    VARIADIC_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENTIABILITY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    name: str
    family: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    variadic: bool
    outputs: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.RepeatedCompositeFieldContainer[AttributeInfo]
    dtypes: _containers.RepeatedScalarFieldContainer[_tensor_pb2.DataType]
    differentiability: Differentiability
    summary: str
    formula: str
    def __init__(self, name: _Optional[str] = ..., family: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ..., variadic: bool = ..., outputs: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Iterable[_Union[AttributeInfo, _Mapping]]] = ..., dtypes: _Optional[_Iterable[_Union[_tensor_pb2.DataType, str]]] = ..., differentiability: _Optional[_Union[Differentiability, str]] = ..., summary: _Optional[str] = ..., formula: _Optional[str] = ...) -> None: ...

class ListOptimizersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListOptimizersResponse(_message.Message):
    __slots__ = ("optimizers", "common_hyperparameters", "schedules", "common_schedule_attributes")
    OPTIMIZERS_FIELD_NUMBER: _ClassVar[int]
    COMMON_HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    COMMON_SCHEDULE_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    optimizers: _containers.RepeatedCompositeFieldContainer[OptimizerInfo]
    common_hyperparameters: _containers.RepeatedCompositeFieldContainer[AttributeInfo]
    schedules: _containers.RepeatedCompositeFieldContainer[ScheduleInfo]
    common_schedule_attributes: _containers.RepeatedCompositeFieldContainer[AttributeInfo]
    def __init__(self, optimizers: _Optional[_Iterable[_Union[OptimizerInfo, _Mapping]]] = ..., common_hyperparameters: _Optional[_Iterable[_Union[AttributeInfo, _Mapping]]] = ..., schedules: _Optional[_Iterable[_Union[ScheduleInfo, _Mapping]]] = ..., common_schedule_attributes: _Optional[_Iterable[_Union[AttributeInfo, _Mapping]]] = ...) -> None: ...

class OptimizerInfo(_message.Message):
    __slots__ = ("name", "hyperparameters", "summary", "formula")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    name: str
    hyperparameters: _containers.RepeatedCompositeFieldContainer[AttributeInfo]
    summary: str
    formula: str
    def __init__(self, name: _Optional[str] = ..., hyperparameters: _Optional[_Iterable[_Union[AttributeInfo, _Mapping]]] = ..., summary: _Optional[str] = ..., formula: _Optional[str] = ...) -> None: ...

class ScheduleInfo(_message.Message):
    __slots__ = ("name", "attributes", "summary", "formula")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    name: str
    attributes: _containers.RepeatedCompositeFieldContainer[AttributeInfo]
    summary: str
    formula: str
    def __init__(self, name: _Optional[str] = ..., attributes: _Optional[_Iterable[_Union[AttributeInfo, _Mapping]]] = ..., summary: _Optional[str] = ..., formula: _Optional[str] = ...) -> None: ...
