import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionCredentials(_message.Message):
    __slots__ = ("session_id", "session_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    session_token: str
    def __init__(self, session_id: _Optional[str] = ..., session_token: _Optional[str] = ...) -> None: ...

class ServerLimits(_message.Message):
    __slots__ = ("max_message_bytes", "max_inline_tensor_bytes", "max_chunk_bytes", "max_batch_commands", "max_unapplied_commands", "max_unapplied_bytes", "max_tensor_elements", "max_session_bytes", "session_ttl")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_INLINE_TENSOR_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAPPLIED_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAPPLIED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TENSOR_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSION_TTL_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_inline_tensor_bytes: int
    max_chunk_bytes: int
    max_batch_commands: int
    max_unapplied_commands: int
    max_unapplied_bytes: int
    max_tensor_elements: int
    max_session_bytes: int
    session_ttl: _duration_pb2.Duration
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_inline_tensor_bytes: _Optional[int] = ..., max_chunk_bytes: _Optional[int] = ..., max_batch_commands: _Optional[int] = ..., max_unapplied_commands: _Optional[int] = ..., max_unapplied_bytes: _Optional[int] = ..., max_tensor_elements: _Optional[int] = ..., max_session_bytes: _Optional[int] = ..., session_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ServerInfo(_message.Message):
    __slots__ = ("version", "protocol_version", "limits")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    version: str
    protocol_version: int
    limits: ServerLimits
    def __init__(self, version: _Optional[str] = ..., protocol_version: _Optional[int] = ..., limits: _Optional[_Union[ServerLimits, _Mapping]] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("client", "protocol_version")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    client: str
    protocol_version: int
    def __init__(self, client: _Optional[str] = ..., protocol_version: _Optional[int] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("credentials", "server")
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    credentials: SessionCredentials
    server: ServerInfo
    def __init__(self, credentials: _Optional[_Union[SessionCredentials, _Mapping]] = ..., server: _Optional[_Union[ServerInfo, _Mapping]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("credentials",)
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    credentials: SessionCredentials
    def __init__(self, credentials: _Optional[_Union[SessionCredentials, _Mapping]] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("next_sequence", "attached", "memory_bytes", "handles", "server", "durable_sequence")
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    next_sequence: int
    attached: bool
    memory_bytes: int
    handles: int
    server: ServerInfo
    durable_sequence: int
    def __init__(self, next_sequence: _Optional[int] = ..., attached: bool = ..., memory_bytes: _Optional[int] = ..., handles: _Optional[int] = ..., server: _Optional[_Union[ServerInfo, _Mapping]] = ..., durable_sequence: _Optional[int] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("credentials",)
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    credentials: SessionCredentials
    def __init__(self, credentials: _Optional[_Union[SessionCredentials, _Mapping]] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("server",)
    SERVER_FIELD_NUMBER: _ClassVar[int]
    server: ServerInfo
    def __init__(self, server: _Optional[_Union[ServerInfo, _Mapping]] = ...) -> None: ...
