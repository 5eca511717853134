from . import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DefineFunction(_message.Message):
    __slots__ = ("function", "parameters", "specs")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    function: int
    parameters: _containers.RepeatedScalarFieldContainer[int]
    specs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.TensorSpec]
    def __init__(self, function: _Optional[int] = ..., parameters: _Optional[_Iterable[int]] = ..., specs: _Optional[_Iterable[_Union[_tensor_pb2.TensorSpec, _Mapping]]] = ...) -> None: ...

class FinishFunction(_message.Message):
    __slots__ = ("function", "results", "abandon")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ABANDON_FIELD_NUMBER: _ClassVar[int]
    function: int
    results: _containers.RepeatedScalarFieldContainer[int]
    abandon: bool
    def __init__(self, function: _Optional[int] = ..., results: _Optional[_Iterable[int]] = ..., abandon: bool = ...) -> None: ...

class FunctionReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.TensorSpec]
    def __init__(self, results: _Optional[_Iterable[_Union[_tensor_pb2.TensorSpec, _Mapping]]] = ...) -> None: ...

class RunLoop(_message.Message):
    __slots__ = ("function", "steps", "datasets", "batch_size", "shuffle_seed", "arguments", "carried", "outputs", "report_every", "stream_reports", "while_result")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_SEED_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    REPORT_EVERY_FIELD_NUMBER: _ClassVar[int]
    STREAM_REPORTS_FIELD_NUMBER: _ClassVar[int]
    WHILE_RESULT_FIELD_NUMBER: _ClassVar[int]
    function: int
    steps: int
    datasets: _containers.RepeatedScalarFieldContainer[int]
    batch_size: int
    shuffle_seed: int
    arguments: _containers.RepeatedScalarFieldContainer[int]
    carried: int
    outputs: _containers.RepeatedScalarFieldContainer[int]
    report_every: int
    stream_reports: bool
    while_result: int
    def __init__(self, function: _Optional[int] = ..., steps: _Optional[int] = ..., datasets: _Optional[_Iterable[int]] = ..., batch_size: _Optional[int] = ..., shuffle_seed: _Optional[int] = ..., arguments: _Optional[_Iterable[int]] = ..., carried: _Optional[int] = ..., outputs: _Optional[_Iterable[int]] = ..., report_every: _Optional[int] = ..., stream_reports: bool = ..., while_result: _Optional[int] = ...) -> None: ...

class Branch(_message.Message):
    __slots__ = ("index", "functions", "arguments", "outputs")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    index: int
    functions: _containers.RepeatedScalarFieldContainer[int]
    arguments: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, index: _Optional[int] = ..., functions: _Optional[_Iterable[int]] = ..., arguments: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class WhileLoop(_message.Message):
    __slots__ = ("condition", "body", "carried", "outputs", "maximum_iterations")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    condition: int
    body: int
    carried: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    maximum_iterations: int
    def __init__(self, condition: _Optional[int] = ..., body: _Optional[int] = ..., carried: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ..., maximum_iterations: _Optional[int] = ...) -> None: ...

class Scan(_message.Message):
    __slots__ = ("body", "carried", "stacks", "length", "reverse", "outputs")
    BODY_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    body: int
    carried: _containers.RepeatedScalarFieldContainer[int]
    stacks: _containers.RepeatedScalarFieldContainer[int]
    length: int
    reverse: bool
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, body: _Optional[int] = ..., carried: _Optional[_Iterable[int]] = ..., stacks: _Optional[_Iterable[int]] = ..., length: _Optional[int] = ..., reverse: bool = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class LoopReport(_message.Message):
    __slots__ = ("step", "values")
    STEP_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    step: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, step: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class LoopReply(_message.Message):
    __slots__ = ("steps", "stopped", "reports")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    steps: int
    stopped: bool
    reports: _containers.RepeatedCompositeFieldContainer[LoopReport]
    def __init__(self, steps: _Optional[int] = ..., stopped: bool = ..., reports: _Optional[_Iterable[_Union[LoopReport, _Mapping]]] = ...) -> None: ...

class LoopProgress(_message.Message):
    __slots__ = ("sequence", "report")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    report: LoopReport
    def __init__(self, sequence: _Optional[int] = ..., report: _Optional[_Union[LoopReport, _Mapping]] = ...) -> None: ...
