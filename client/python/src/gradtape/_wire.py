"""Writes commands as protobuf bytes, without protobuf objects in between.

A tutorial step has fourteen commands, and building a message object for each costs more than
everything else the client does. So handles are kept as varints of one fixed width, which makes all
other bytes of a command constants: a `Template` computes them once for each line of the user's
program, and to make the command is to fill in the handles.

Everything here returns *entries*: the bytes of `Batch.commands` with their field header, ready to
be joined. `tests/test_wire.py` parses each kind of entry with the generated modules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from gradtape.dtypes import DType

# Fields of `Command`, from command.proto.
CONSTANT = 1
OP = 2
RELEASE = 3
CREATE_VARIABLE = 4
READ_VARIABLE = 5
ASSIGN_VARIABLE = 6
SCATTER_VARIABLE = 7
OPEN_TAPE = 8
WATCH_TAPE = 9
STOP_TAPE = 10
RESUME_TAPE = 11
RESET_TAPE = 12
CLOSE_TAPE = 13
LIST_WATCHED_VARIABLES = 14
COMPUTE_GRADIENT = 15
CREATE_OPTIMIZER = 16
APPLY_OPTIMIZER = 17
SET_OPTIMIZER = 18
CREATE_GENERATOR = 19
NEXT_GENERATOR_STATE = 20
FETCH = 21
DESCRIBE = 22
SYNC = 23
COMPUTE_JACOBIAN = 24
COMPUTE_BATCH_JACOBIAN = 25
OPEN_ACCUMULATOR = 26
READ_TANGENT = 27
CREATE_PLACEHOLDERS = 28
RECORD_CUSTOM_GRADIENT = 29
CALL_FUNCTION = 32
EXPLAIN = 33
DEFINE_FUNCTION = 34
FINISH_FUNCTION = 35
RUN_LOOP = 36
BRANCH = 37
WHILE_LOOP = 38
SCAN = 39
READ_OPTIMIZER = 40
RESTORE_CHECKPOINT = 41
EXPLAIN_FUNCTION = 42
_TAG = 30
_SCOPE = 31

# `Batch.commands`, and `AssignMode`.
_COMMANDS = 2
REPLACE, ADD, SUBTRACT = 1, 2, 3

AttributeValue = bool | int | float | str | DType | Sequence[int] | Sequence[float]


def varint(number: int) -> bytes:
    """Encodes an unsigned integer, or a signed one as protobuf's int64."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes) -> int:
    """Decodes the number that `varint` encoded."""
    number = 0
    for i, byte in enumerate(data):
        number |= (byte & 127) << (7 * i)
    return number


_SMALL = [bytes([i]) for i in range(128)]


def number_field(field: int, number: int) -> bytes:
    """Encodes a field of a varint type; nothing if it is 0."""
    return varint(field << 3) + varint(number) if number else b""


def bytes_field(field: int, data: bytes) -> bytes:
    """Encodes a field of type bytes, string or message."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def handle_field(field: int, handle: bytes) -> bytes:
    """Encodes a field that holds one handle."""
    return _SMALL[field << 3] + handle


def packed_field(field: int, numbers: Iterable[int]) -> bytes:
    """Encodes a repeated field of integers; nothing if it is empty."""
    data = b"".join(map(varint, numbers))
    return bytes_field(field, data) if data else b""


def handles_field(field: int, handles: Iterable[bytes]) -> bytes:
    """Encodes a repeated field of handles; nothing if it is empty."""
    data = b"".join(handles)
    return bytes_field(field, data) if data else b""


def attribute(name: str, value: AttributeValue) -> bytes:
    """Encodes an `Attribute` message."""
    head = bytes_field(1, name.encode())
    if isinstance(value, bool):
        return head + varint(2 << 3) + varint(int(value))
    if isinstance(value, DType):
        return head + varint(6 << 3) + varint(value.number)
    if isinstance(value, int):
        return head + varint(3 << 3) + varint(value)
    if isinstance(value, float):
        return head + varint(4 << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, str):
        return head + bytes_field(5, value.encode())
    if any(isinstance(number, float) for number in value):
        doubles = struct.pack(f"<{len(value)}d", *value)
        return head + bytes_field(8, bytes_field(1, doubles))
    return head + bytes_field(7, packed_field(1, value))


def spec(dtype: DType, shape: Sequence[int]) -> bytes:
    """Encodes a `TensorSpec`, which is also the beginning of a `Tensor`."""
    return number_field(1, dtype.number) + packed_field(2, shape)


def suffix(tag: str, scope: int) -> bytes:
    """Encodes the fields that follow the kind in every command: tag and scope."""
    encoded = tag.encode()[:256]
    return (bytes_field(_TAG, encoded) if encoded else b"") + number_field(_SCOPE, scope)


def entry(kind: int, body: bytes, tail: bytes) -> bytes:
    """Encodes a command of any kind as an entry of `Batch.commands`."""
    size = len(body)
    if size < 128:
        command = varint(kind << 3 | 2) + _SMALL[size] + body + tail
    else:
        command = varint(kind << 3 | 2) + varint(size) + body + tail
    size = len(command)
    return b"\x12" + (_SMALL[size] if size < 128 else varint(size)) + command


def command_of(entry_: bytes) -> bytes:
    """Returns the `Command` in an entry."""
    start = 1
    while entry_[start] & 128:
        start += 1
    return entry_[start + 1 :]


def batch(first_sequence: int, acknowledged_sequence: int, entries: bytes) -> bytes:
    """Encodes a `StreamRequest` with a `Batch`."""
    return bytes_field(
        2, number_field(1, first_sequence) + entries + number_field(3, acknowledged_sequence)
    )


# What a body has, one thing after the other: bytes that are always the same; a handle, by the
# number of its field, or 0 in a packed one; or the number of a field and what is in it.
Layout = Sequence["bytes | int | tuple[int, Layout]"]


class Template:
    """A command of which all is known but handles, tag and scope."""

    __slots__ = ("kind", "layout")

    def __init__(self, kind: int, layout: Layout) -> None:
        self.kind = kind
        self.layout = layout

    def blank(self, width: int, tail: bytes) -> bytes:
        """Returns the entry with `%b` for each handle: `blank % handles` fills it in.

        Args:
            width: Bytes of an encoded handle.
            tail: What `suffix` made.
        """
        size, body = _laid_out(self.layout, width)
        head = varint(self.kind << 3 | 2) + varint(size)
        head = b"\x12" + varint(len(head) + size + len(tail)) + head
        return _escaped(head) + body + _escaped(tail)


def _laid_out(layout: Layout, width: int) -> tuple[int, bytes]:
    """Returns the size of what is laid out, and its bytes with `%b` for each handle."""
    size, out = 0, b""
    for part in layout:
        length, inner = 0, b""
        if isinstance(part, bytes):
            head = part
        elif isinstance(part, int):
            head = _SMALL[part << 3] if part else b""
            length, inner = width, b"%b"
        else:
            field, within = part
            length, inner = _laid_out(within, width)
            head = varint(field << 3 | 2) + varint(length)
        size += len(head) + length
        out += _escaped(head) + inner
    return size, out


def _escaped(data: bytes) -> bytes:
    return data.replace(b"%", b"%%")


class OpTemplate(Template):
    """An op with its attributes and its numbers of inputs and outputs."""

    __slots__ = ("name", "outputs")

    def __init__(
        self, name: str, attributes: dict[str, AttributeValue], inputs: int, outputs: int = 1
    ) -> None:
        layout: list[bytes | int | tuple[int, Layout]] = [bytes_field(1, name.encode())]
        if inputs:
            layout.append((2, (0,) * inputs))
        layout.append((3, (0,) * outputs))
        layout += [bytes_field(4, attribute(key, value)) for key, value in attributes.items()]
        super().__init__(OP, layout)
        self.name = name
        self.outputs = outputs


class Blanks(dict[Template, bytes]):
    """The blanks of templates, made when they are first looked up, with the same tail.

    Args:
        width: Bytes of an encoded handle.
        tail: What `suffix` made.
    """

    __slots__ = ("tail", "width")

    def __init__(self, width: int, tail: bytes) -> None:
        self.width = width
        self.tail = tail

    def __missing__(self, template: Template) -> bytes:
        """Makes a blank."""
        if len(self) >= _MOST_BLANKS:
            self.clear()
        blank = self[template] = template.blank(self.width, self.tail)
        return blank


# Programs whose templates are ever new must not fill the memory.
_MOST_BLANKS = 1_000

_TEMPLATES: dict[tuple[object, ...], OpTemplate] = {}

# Programs that slice at ever-changing places make ever new templates; the table then starts anew.
_MOST_TEMPLATES = 10_000


def template(
    name: str, attributes: dict[str, AttributeValue], inputs: int, outputs: int = 1
) -> OpTemplate:
    """Returns the one template of an op, its attributes and its numbers of inputs and outputs."""
    key: tuple[object, ...] = (name, inputs, outputs)
    if attributes:
        # The values' types belong to the key, since True == 1 == 1.0.
        key += tuple(
            (k, v if isinstance(v, tuple) else (type(v), v)) for k, v in attributes.items()
        )
    found = _TEMPLATES.get(key)
    if found is None:
        if len(_TEMPLATES) >= _MOST_TEMPLATES:
            _TEMPLATES.clear()
        found = _TEMPLATES[key] = OpTemplate(name, attributes, inputs, outputs)
    return found
