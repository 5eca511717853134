from . import checkpoint_pb2 as _checkpoint_pb2
from . import error_pb2 as _error_pb2
from . import function_pb2 as _function_pb2
from . import level_pb2 as _level_pb2
from . import op_pb2 as _op_pb2
from . import optimizer_pb2 as _optimizer_pb2
from . import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AssignMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASSIGN_MODE_UNSPECIFIED: _ClassVar[AssignMode]
    ASSIGN_MODE_REPLACE: _ClassVar[AssignMode]
    ASSIGN_MODE_ADD: _ClassVar[AssignMode]
    ASSIGN_MODE_SUBTRACT: _ClassVar[AssignMode]

class UnconnectedGradients(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNCONNECTED_GRADIENTS_UNSPECIFIED: _ClassVar[UnconnectedGradients]
    UNCONNECTED_GRADIENTS_NONE: _ClassVar[UnconnectedGradients]
    UNCONNECTED_GRADIENTS_ZERO: _ClassVar[UnconnectedGradients]

class GradientKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRADIENT_KIND_UNSPECIFIED: _ClassVar[GradientKind]
    GRADIENT_KIND_DENSE: _ClassVar[GradientKind]
    GRADIENT_KIND_SPARSE: _ClassVar[GradientKind]
    GRADIENT_KIND_ABSENT: _ClassVar[GradientKind]
    GRADIENT_KIND_ZERO_FILLED: _ClassVar[GradientKind]

class AbsentReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ABSENT_REASON_UNSPECIFIED: _ClassVar[AbsentReason]
    ABSENT_REASON_NOT_WATCHED: _ClassVar[AbsentReason]
    ABSENT_REASON_DTYPE: _ClassVar[AbsentReason]
    ABSENT_REASON_STOP_GRADIENT: _ClassVar[AbsentReason]
    ABSENT_REASON_NO_DERIVATIVE: _ClassVar[AbsentReason]
    ABSENT_REASON_NO_PATH: _ClassVar[AbsentReason]
ASSIGN_MODE_UNSPECIFIED: AssignMode
ASSIGN_MODE_REPLACE: AssignMode
ASSIGN_MODE_ADD: AssignMode
ASSIGN_MODE_SUBTRACT: AssignMode
UNCONNECTED_GRADIENTS_UNSPECIFIED: UnconnectedGradients
UNCONNECTED_GRADIENTS_NONE: UnconnectedGradients
UNCONNECTED_GRADIENTS_ZERO: UnconnectedGradients
GRADIENT_KIND_UNSPECIFIED: GradientKind
GRADIENT_KIND_DENSE: GradientKind
GRADIENT_KIND_SPARSE: GradientKind
GRADIENT_KIND_ABSENT: GradientKind
GRADIENT_KIND_ZERO_FILLED: GradientKind
ABSENT_REASON_UNSPECIFIED: AbsentReason
ABSENT_REASON_NOT_WATCHED: AbsentReason
ABSENT_REASON_DTYPE: AbsentReason
ABSENT_REASON_STOP_GRADIENT: AbsentReason
ABSENT_REASON_NO_DERIVATIVE: AbsentReason
ABSENT_REASON_NO_PATH: AbsentReason

class Constant(_message.Message):
    __slots__ = ("output", "tensor", "upload")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    output: int
    tensor: _tensor_pb2.Tensor
    upload: int
    def __init__(self, output: _Optional[int] = ..., tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., upload: _Optional[int] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("handles",)
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, handles: _Optional[_Iterable[int]] = ...) -> None: ...

class CreateVariable(_message.Message):
    __slots__ = ("variable", "name", "initial_value", "trainable")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    INITIAL_VALUE_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    variable: int
    name: str
    initial_value: int
    trainable: bool
    def __init__(self, variable: _Optional[int] = ..., name: _Optional[str] = ..., initial_value: _Optional[int] = ..., trainable: bool = ...) -> None: ...

class ReadVariable(_message.Message):
    __slots__ = ("variable", "output")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    variable: int
    output: int
    def __init__(self, variable: _Optional[int] = ..., output: _Optional[int] = ...) -> None: ...

class AssignVariable(_message.Message):
    __slots__ = ("variable", "value", "mode")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    variable: int
    value: int
    mode: AssignMode
    def __init__(self, variable: _Optional[int] = ..., value: _Optional[int] = ..., mode: _Optional[_Union[AssignMode, str]] = ...) -> None: ...

class ScatterVariable(_message.Message):
    __slots__ = ("variable", "indices", "updates", "mode")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    variable: int
    indices: int
    updates: int
    mode: AssignMode
    def __init__(self, variable: _Optional[int] = ..., indices: _Optional[int] = ..., updates: _Optional[int] = ..., mode: _Optional[_Union[AssignMode, str]] = ...) -> None: ...

class OpenTape(_message.Message):
    __slots__ = ("tape", "persistent", "watch_accessed_variables", "paused")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    PERSISTENT_FIELD_NUMBER: _ClassVar[int]
    WATCH_ACCESSED_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    tape: int
    persistent: bool
    watch_accessed_variables: bool
    paused: bool
    def __init__(self, tape: _Optional[int] = ..., persistent: bool = ..., watch_accessed_variables: bool = ..., paused: bool = ...) -> None: ...

class WatchTape(_message.Message):
    __slots__ = ("tape", "values")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    tape: int
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tape: _Optional[int] = ..., values: _Optional[_Iterable[int]] = ...) -> None: ...

class StopTape(_message.Message):
    __slots__ = ("tape", "require_recording")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_RECORDING_FIELD_NUMBER: _ClassVar[int]
    tape: int
    require_recording: bool
    def __init__(self, tape: _Optional[int] = ..., require_recording: bool = ...) -> None: ...

class ResumeTape(_message.Message):
    __slots__ = ("tape",)
    TAPE_FIELD_NUMBER: _ClassVar[int]
    tape: int
    def __init__(self, tape: _Optional[int] = ...) -> None: ...

class ResetTape(_message.Message):
    __slots__ = ("tape",)
    TAPE_FIELD_NUMBER: _ClassVar[int]
    tape: int
    def __init__(self, tape: _Optional[int] = ...) -> None: ...

class CloseTape(_message.Message):
    __slots__ = ("tape",)
    TAPE_FIELD_NUMBER: _ClassVar[int]
    tape: int
    def __init__(self, tape: _Optional[int] = ...) -> None: ...

class ListWatchedVariables(_message.Message):
    __slots__ = ("tape",)
    TAPE_FIELD_NUMBER: _ClassVar[int]
    tape: int
    def __init__(self, tape: _Optional[int] = ...) -> None: ...

class GradientOutput(_message.Message):
    __slots__ = ("gradient", "indices")
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    gradient: int
    indices: int
    def __init__(self, gradient: _Optional[int] = ..., indices: _Optional[int] = ...) -> None: ...

class ComputeGradient(_message.Message):
    __slots__ = ("tape", "targets", "sources", "outputs", "output_gradients", "unconnected_gradients", "expected_kinds")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    UNCONNECTED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_KINDS_FIELD_NUMBER: _ClassVar[int]
    tape: int
    targets: _containers.RepeatedScalarFieldContainer[int]
    sources: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedCompositeFieldContainer[GradientOutput]
    output_gradients: _containers.RepeatedScalarFieldContainer[int]
    unconnected_gradients: UnconnectedGradients
    expected_kinds: _containers.RepeatedScalarFieldContainer[GradientKind]
    def __init__(self, tape: _Optional[int] = ..., targets: _Optional[_Iterable[int]] = ..., sources: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[_Union[GradientOutput, _Mapping]]] = ..., output_gradients: _Optional[_Iterable[int]] = ..., unconnected_gradients: _Optional[_Union[UnconnectedGradients, str]] = ..., expected_kinds: _Optional[_Iterable[_Union[GradientKind, str]]] = ...) -> None: ...

class ComputeJacobian(_message.Message):
    __slots__ = ("tape", "target", "sources", "outputs", "unconnected_gradients")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    UNCONNECTED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    tape: int
    target: int
    sources: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    unconnected_gradients: UnconnectedGradients
    def __init__(self, tape: _Optional[int] = ..., target: _Optional[int] = ..., sources: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ..., unconnected_gradients: _Optional[_Union[UnconnectedGradients, str]] = ...) -> None: ...

class ComputeBatchJacobian(_message.Message):
    __slots__ = ("tape", "target", "source", "output")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    tape: int
    target: int
    source: int
    output: int
    def __init__(self, tape: _Optional[int] = ..., target: _Optional[int] = ..., source: _Optional[int] = ..., output: _Optional[int] = ...) -> None: ...

class CreatePlaceholders(_message.Message):
    __slots__ = ("like", "outputs")
    LIKE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    like: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, like: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class RecordCustomGradient(_message.Message):
    __slots__ = ("inputs", "results", "outputs", "upstream", "gradients")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedScalarFieldContainer[int]
    results: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    upstream: _containers.RepeatedScalarFieldContainer[int]
    gradients: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, inputs: _Optional[_Iterable[int]] = ..., results: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ..., upstream: _Optional[_Iterable[int]] = ..., gradients: _Optional[_Iterable[int]] = ...) -> None: ...

class CallFunction(_message.Message):
    __slots__ = ("function", "parameters", "results", "arguments", "outputs")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    function: int
    parameters: _containers.RepeatedScalarFieldContainer[int]
    results: _containers.RepeatedScalarFieldContainer[int]
    arguments: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, function: _Optional[int] = ..., parameters: _Optional[_Iterable[int]] = ..., results: _Optional[_Iterable[int]] = ..., arguments: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class Explain(_message.Message):
    __slots__ = ("tape", "target", "source")
    TAPE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    tape: int
    target: int
    source: int
    def __init__(self, tape: _Optional[int] = ..., target: _Optional[int] = ..., source: _Optional[int] = ...) -> None: ...

class OpenAccumulator(_message.Message):
    __slots__ = ("accumulator", "primals", "tangents", "paused")
    ACCUMULATOR_FIELD_NUMBER: _ClassVar[int]
    PRIMALS_FIELD_NUMBER: _ClassVar[int]
    TANGENTS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    accumulator: int
    primals: _containers.RepeatedScalarFieldContainer[int]
    tangents: _containers.RepeatedScalarFieldContainer[int]
    paused: bool
    def __init__(self, accumulator: _Optional[int] = ..., primals: _Optional[_Iterable[int]] = ..., tangents: _Optional[_Iterable[int]] = ..., paused: bool = ...) -> None: ...

class ReadTangent(_message.Message):
    __slots__ = ("accumulator", "values", "outputs", "unconnected_gradients")
    ACCUMULATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    UNCONNECTED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    accumulator: int
    values: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    unconnected_gradients: UnconnectedGradients
    def __init__(self, accumulator: _Optional[int] = ..., values: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ..., unconnected_gradients: _Optional[_Union[UnconnectedGradients, str]] = ...) -> None: ...

class CreateGenerator(_message.Message):
    __slots__ = ("generator", "seed")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    generator: int
    seed: int
    def __init__(self, generator: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class NextGeneratorState(_message.Message):
    __slots__ = ("generator", "output", "draws")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    generator: int
    output: int
    draws: int
    def __init__(self, generator: _Optional[int] = ..., output: _Optional[int] = ..., draws: _Optional[int] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: int
    def __init__(self, value: _Optional[int] = ...) -> None: ...

class Describe(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: int
    def __init__(self, value: _Optional[int] = ...) -> None: ...

class Sync(_message.Message):
    __slots__ = ("level", "timeout_ms")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    level: _level_pb2.Level
    timeout_ms: int
    def __init__(self, level: _Optional[_Union[_level_pb2.Level, str]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("constant", "op", "release", "create_variable", "read_variable", "assign_variable", "scatter_variable", "open_tape", "watch_tape", "stop_tape", "resume_tape", "reset_tape", "close_tape", "list_watched_variables", "compute_gradient", "create_optimizer", "apply_optimizer", "set_optimizer", "create_generator", "next_generator_state", "fetch", "describe", "sync", "compute_jacobian", "compute_batch_jacobian", "open_accumulator", "read_tangent", "create_placeholders", "record_custom_gradient", "call_function", "explain", "define_function", "finish_function", "run_loop", "branch", "while_loop", "scan", "explain_function", "read_optimizer", "restore_checkpoint", "tag", "scope")
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    CREATE_VARIABLE_FIELD_NUMBER: _ClassVar[int]
    READ_VARIABLE_FIELD_NUMBER: _ClassVar[int]
    ASSIGN_VARIABLE_FIELD_NUMBER: _ClassVar[int]
    SCATTER_VARIABLE_FIELD_NUMBER: _ClassVar[int]
    OPEN_TAPE_FIELD_NUMBER: _ClassVar[int]
    WATCH_TAPE_FIELD_NUMBER: _ClassVar[int]
    STOP_TAPE_FIELD_NUMBER: _ClassVar[int]
    RESUME_TAPE_FIELD_NUMBER: _ClassVar[int]
    RESET_TAPE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TAPE_FIELD_NUMBER: _ClassVar[int]
    LIST_WATCHED_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    CREATE_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    APPLY_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    SET_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    CREATE_GENERATOR_FIELD_NUMBER: _ClassVar[int]
    NEXT_GENERATOR_STATE_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    DESCRIBE_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_BATCH_JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    OPEN_ACCUMULATOR_FIELD_NUMBER: _ClassVar[int]
    READ_TANGENT_FIELD_NUMBER: _ClassVar[int]
    CREATE_PLACEHOLDERS_FIELD_NUMBER: _ClassVar[int]
    RECORD_CUSTOM_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    CALL_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    DEFINE_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    FINISH_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    RUN_LOOP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    WHILE_LOOP_FIELD_NUMBER: _ClassVar[int]
    SCAN_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    READ_OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    RESTORE_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    constant: Constant
    op: _op_pb2.Op
    release: Release
    create_variable: CreateVariable
    read_variable: ReadVariable
    assign_variable: AssignVariable
    scatter_variable: ScatterVariable
    open_tape: OpenTape
    watch_tape: WatchTape
    stop_tape: StopTape
    resume_tape: ResumeTape
    reset_tape: ResetTape
    close_tape: CloseTape
    list_watched_variables: ListWatchedVariables
    compute_gradient: ComputeGradient
    create_optimizer: _optimizer_pb2.CreateOptimizer
    apply_optimizer: _optimizer_pb2.ApplyOptimizer
    set_optimizer: _optimizer_pb2.SetOptimizer
    create_generator: CreateGenerator
    next_generator_state: NextGeneratorState
    fetch: Fetch
    describe: Describe
    sync: Sync
    compute_jacobian: ComputeJacobian
    compute_batch_jacobian: ComputeBatchJacobian
    open_accumulator: OpenAccumulator
    read_tangent: ReadTangent
    create_placeholders: CreatePlaceholders
    record_custom_gradient: RecordCustomGradient
    call_function: CallFunction
    explain: Explain
    define_function: _function_pb2.DefineFunction
    finish_function: _function_pb2.FinishFunction
    run_loop: _function_pb2.RunLoop
    branch: _function_pb2.Branch
    while_loop: _function_pb2.WhileLoop
    scan: _function_pb2.Scan
    explain_function: _function_pb2.ExplainFunction
    read_optimizer: _optimizer_pb2.ReadOptimizer
    restore_checkpoint: _checkpoint_pb2.RestoreCheckpoint
    tag: str
    scope: int
    def __init__(self, constant: _Optional[_Union[Constant, _Mapping]] = ..., op: _Optional[_Union[_op_pb2.Op, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., create_variable: _Optional[_Union[CreateVariable, _Mapping]] = ..., read_variable: _Optional[_Union[ReadVariable, _Mapping]] = ..., assign_variable: _Optional[_Union[AssignVariable, _Mapping]] = ..., scatter_variable: _Optional[_Union[ScatterVariable, _Mapping]] = ..., open_tape: _Optional[_Union[OpenTape, _Mapping]] = ..., watch_tape: _Optional[_Union[WatchTape, _Mapping]] = ..., stop_tape: _Optional[_Union[StopTape, _Mapping]] = ..., resume_tape: _Optional[_Union[ResumeTape, _Mapping]] = ..., reset_tape: _Optional[_Union[ResetTape, _Mapping]] = ..., close_tape: _Optional[_Union[CloseTape, _Mapping]] = ..., list_watched_variables: _Optional[_Union[ListWatchedVariables, _Mapping]] = ..., compute_gradient: _Optional[_Union[ComputeGradient, _Mapping]] = ..., create_optimizer: _Optional[_Union[_optimizer_pb2.CreateOptimizer, _Mapping]] = ..., apply_optimizer: _Optional[_Union[_optimizer_pb2.ApplyOptimizer, _Mapping]] = ..., set_optimizer: _Optional[_Union[_optimizer_pb2.SetOptimizer, _Mapping]] = ..., create_generator: _Optional[_Union[CreateGenerator, _Mapping]] = ..., next_generator_state: _Optional[_Union[NextGeneratorState, _Mapping]] = ..., fetch: _Optional[_Union[Fetch, _Mapping]] = ..., describe: _Optional[_Union[Describe, _Mapping]] = ..., sync: _Optional[_Union[Sync, _Mapping]] = ..., compute_jacobian: _Optional[_Union[ComputeJacobian, _Mapping]] = ..., compute_batch_jacobian: _Optional[_Union[ComputeBatchJacobian, _Mapping]] = ..., open_accumulator: _Optional[_Union[OpenAccumulator, _Mapping]] = ..., read_tangent: _Optional[_Union[ReadTangent, _Mapping]] = ..., create_placeholders: _Optional[_Union[CreatePlaceholders, _Mapping]] = ..., record_custom_gradient: _Optional[_Union[RecordCustomGradient, _Mapping]] = ..., call_function: _Optional[_Union[CallFunction, _Mapping]] = ..., explain: _Optional[_Union[Explain, _Mapping]] = ..., define_function: _Optional[_Union[_function_pb2.DefineFunction, _Mapping]] = ..., finish_function: _Optional[_Union[_function_pb2.FinishFunction, _Mapping]] = ..., run_loop: _Optional[_Union[_function_pb2.RunLoop, _Mapping]] = ..., branch: _Optional[_Union[_function_pb2.Branch, _Mapping]] = ..., while_loop: _Optional[_Union[_function_pb2.WhileLoop, _Mapping]] = ..., scan: _Optional[_Union[_function_pb2.Scan, _Mapping]] = ..., explain_function: _Optional[_Union[_function_pb2.ExplainFunction, _Mapping]] = ..., read_optimizer: _Optional[_Union[_optimizer_pb2.ReadOptimizer, _Mapping]] = ..., restore_checkpoint: _Optional[_Union[_checkpoint_pb2.RestoreCheckpoint, _Mapping]] = ..., tag: _Optional[str] = ..., scope: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("first_sequence", "commands", "acknowledged_sequence")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    acknowledged_sequence: int
    def __init__(self, first_sequence: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., acknowledged_sequence: _Optional[int] = ...) -> None: ...

class GradientInfo(_message.Message):
    __slots__ = ("kind", "absent_reason", "spec")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ABSENT_REASON_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    kind: GradientKind
    absent_reason: AbsentReason
    spec: _tensor_pb2.TensorSpec
    def __init__(self, kind: _Optional[_Union[GradientKind, str]] = ..., absent_reason: _Optional[_Union[AbsentReason, str]] = ..., spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ...) -> None: ...

class GradientReply(_message.Message):
    __slots__ = ("gradients",)
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    gradients: _containers.RepeatedCompositeFieldContainer[GradientInfo]
    def __init__(self, gradients: _Optional[_Iterable[_Union[GradientInfo, _Mapping]]] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("op", "output", "tag")
    OP_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    op: str
    output: _tensor_pb2.TensorSpec
    tag: str
    def __init__(self, op: _Optional[str] = ..., output: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., tag: _Optional[str] = ...) -> None: ...

class ExplainReply(_message.Message):
    __slots__ = ("absent_reason", "path", "elided")
    ABSENT_REASON_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ELIDED_FIELD_NUMBER: _ClassVar[int]
    absent_reason: AbsentReason
    path: _containers.RepeatedCompositeFieldContainer[Hop]
    elided: int
    def __init__(self, absent_reason: _Optional[_Union[AbsentReason, str]] = ..., path: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., elided: _Optional[int] = ...) -> None: ...

class OptimizerReply(_message.Message):
    __slots__ = ("iterations", "learning_rate", "skipped", "loss_scale")
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    LOSS_SCALE_FIELD_NUMBER: _ClassVar[int]
    iterations: int
    learning_rate: float
    skipped: bool
    loss_scale: float
    def __init__(self, iterations: _Optional[int] = ..., learning_rate: _Optional[float] = ..., skipped: bool = ..., loss_scale: _Optional[float] = ...) -> None: ...

class VariablesReply(_message.Message):
    __slots__ = ("variables",)
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    variables: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, variables: _Optional[_Iterable[int]] = ...) -> None: ...

class SyncReply(_message.Message):
    __slots__ = ("level", "durable_sequence", "portable_sequence")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PORTABLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    level: _level_pb2.Level
    durable_sequence: int
    portable_sequence: int
    def __init__(self, level: _Optional[_Union[_level_pb2.Level, str]] = ..., durable_sequence: _Optional[int] = ..., portable_sequence: _Optional[int] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("sequence", "error", "tensor", "spec", "gradient", "optimizer", "variables", "sync", "explanation", "function", "loop", "restore", "plan", "warnings")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    LOOP_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    error: _error_pb2.Error
    tensor: _tensor_pb2.Tensor
    spec: _tensor_pb2.TensorSpec
    gradient: GradientReply
    optimizer: OptimizerReply
    variables: VariablesReply
    sync: SyncReply
    explanation: ExplainReply
    function: _function_pb2.FunctionReply
    loop: _function_pb2.LoopReply
    restore: _checkpoint_pb2.RestoreReply
    plan: _function_pb2.PlanReply
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sequence: _Optional[int] = ..., error: _Optional[_Union[_error_pb2.Error, _Mapping]] = ..., tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., gradient: _Optional[_Union[GradientReply, _Mapping]] = ..., optimizer: _Optional[_Union[OptimizerReply, _Mapping]] = ..., variables: _Optional[_Union[VariablesReply, _Mapping]] = ..., sync: _Optional[_Union[SyncReply, _Mapping]] = ..., explanation: _Optional[_Union[ExplainReply, _Mapping]] = ..., function: _Optional[_Union[_function_pb2.FunctionReply, _Mapping]] = ..., loop: _Optional[_Union[_function_pb2.LoopReply, _Mapping]] = ..., restore: _Optional[_Union[_checkpoint_pb2.RestoreReply, _Mapping]] = ..., plan: _Optional[_Union[_function_pb2.PlanReply, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_ns", "execution_ns", "request_bytes", "backlog_commands", "memory_bytes")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_NS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    execution_ns: int
    request_bytes: int
    backlog_commands: int
    memory_bytes: int
    def __init__(self, queue_ns: _Optional[int] = ..., execution_ns: _Optional[int] = ..., request_bytes: _Optional[int] = ..., backlog_commands: _Optional[int] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class BatchReply(_message.Message):
    __slots__ = ("applied_sequence", "replies", "timing", "durable_sequence")
    APPLIED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    applied_sequence: int
    replies: _containers.RepeatedCompositeFieldContainer[Reply]
    timing: Timing
    durable_sequence: int
    def __init__(self, applied_sequence: _Optional[int] = ..., replies: _Optional[_Iterable[_Union[Reply, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., durable_sequence: _Optional[int] = ...) -> None: ...
