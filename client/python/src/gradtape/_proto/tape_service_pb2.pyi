from . import command_pb2 as _command_pb2
from . import function_pb2 as _function_pb2
from . import session_service_pb2 as _session_service_pb2
from . import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("credentials", "notices")
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    credentials: _session_service_pb2.SessionCredentials
    notices: bool
    def __init__(self, credentials: _Optional[_Union[_session_service_pb2.SessionCredentials, _Mapping]] = ..., notices: bool = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("next_sequence", "handle_base", "server", "durable_sequence", "rewound_to")
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HANDLE_BASE_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REWOUND_TO_FIELD_NUMBER: _ClassVar[int]
    next_sequence: int
    handle_base: int
    server: _session_service_pb2.ServerInfo
    durable_sequence: int
    rewound_to: int
    def __init__(self, next_sequence: _Optional[int] = ..., handle_base: _Optional[int] = ..., server: _Optional[_Union[_session_service_pb2.ServerInfo, _Mapping]] = ..., durable_sequence: _Optional[int] = ..., rewound_to: _Optional[int] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("hello", "batch")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    batch: _command_pb2.Batch
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., batch: _Optional[_Union[_command_pb2.Batch, _Mapping]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("welcome", "batch", "progress", "notice")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    batch: _command_pb2.BatchReply
    progress: _function_pb2.LoopProgress
    notice: Notice
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., batch: _Optional[_Union[_command_pb2.BatchReply, _Mapping]] = ..., progress: _Optional[_Union[_function_pb2.LoopProgress, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("kind", "remaining_ms")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Notice.Kind]
        KIND_PARKED: _ClassVar[Notice.Kind]
        KIND_EXPIRES: _ClassVar[Notice.Kind]
    KIND_UNSPECIFIED: Notice.Kind
    KIND_PARKED: Notice.Kind
    KIND_EXPIRES: Notice.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    kind: Notice.Kind
    remaining_ms: int
    def __init__(self, kind: _Optional[_Union[Notice.Kind, str]] = ..., remaining_ms: _Optional[int] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("credentials", "batch")
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    credentials: _session_service_pb2.SessionCredentials
    batch: _command_pb2.Batch
    def __init__(self, credentials: _Optional[_Union[_session_service_pb2.SessionCredentials, _Mapping]] = ..., batch: _Optional[_Union[_command_pb2.Batch, _Mapping]] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: _command_pb2.BatchReply
    def __init__(self, batch: _Optional[_Union[_command_pb2.BatchReply, _Mapping]] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("credentials", "upload", "spec")
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    credentials: _session_service_pb2.SessionCredentials
    upload: int
    spec: _tensor_pb2.TensorSpec
    def __init__(self, credentials: _Optional[_Union[_session_service_pb2.SessionCredentials, _Mapping]] = ..., upload: _Optional[int] = ..., spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ...) -> None: ...

class UploadTensorRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadTensorResponse(_message.Message):
    __slots__ = ("received_bytes",)
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    def __init__(self, received_bytes: _Optional[int] = ...) -> None: ...

class DownloadTensorRequest(_message.Message):
    __slots__ = ("credentials", "value", "after_sequence")
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    credentials: _session_service_pb2.SessionCredentials
    value: int
    after_sequence: int
    def __init__(self, credentials: _Optional[_Union[_session_service_pb2.SessionCredentials, _Mapping]] = ..., value: _Optional[int] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class DownloadTensorResponse(_message.Message):
    __slots__ = ("spec", "chunk")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    spec: _tensor_pb2.TensorSpec
    chunk: bytes
    def __init__(self, spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class StopLoopRequest(_message.Message):
    __slots__ = ("credentials", "sequence")
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    credentials: _session_service_pb2.SessionCredentials
    sequence: int
    def __init__(self, credentials: _Optional[_Union[_session_service_pb2.SessionCredentials, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class StopLoopResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelCommandsRequest(_message.Message):
    __slots__ = ("credentials", "sequence")
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    credentials: _session_service_pb2.SessionCredentials
    sequence: int
    def __init__(self, credentials: _Optional[_Union[_session_service_pb2.SessionCredentials, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class CancelCommandsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
