from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEVEL_UNSPECIFIED: _ClassVar[Level]
    LEVEL_APPLIED: _ClassVar[Level]
    LEVEL_DURABLE: _ClassVar[Level]
    LEVEL_PORTABLE: _ClassVar[Level]
LEVEL_UNSPECIFIED: Level
LEVEL_APPLIED: Level
LEVEL_DURABLE: Level
LEVEL_PORTABLE: Level
