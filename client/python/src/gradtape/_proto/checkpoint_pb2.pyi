from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckpointEntry(_message.Message):
    __slots__ = ("handle", "key")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    handle: int
    key: str
    def __init__(self, handle: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...

class RestoreCheckpoint(_message.Message):
    __slots__ = ("upload", "entries", "weights_only", "partial")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_ONLY_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    upload: int
    entries: _containers.RepeatedCompositeFieldContainer[CheckpointEntry]
    weights_only: bool
    partial: bool
    def __init__(self, upload: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[CheckpointEntry, _Mapping]]] = ..., weights_only: bool = ..., partial: bool = ...) -> None: ...

class RestoreReply(_message.Message):
    __slots__ = ("variables", "optimizers", "generators")
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZERS_FIELD_NUMBER: _ClassVar[int]
    GENERATORS_FIELD_NUMBER: _ClassVar[int]
    variables: int
    optimizers: int
    generators: int
    def __init__(self, variables: _Optional[int] = ..., optimizers: _Optional[int] = ..., generators: _Optional[int] = ...) -> None: ...
