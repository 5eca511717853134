"""Replays the repository's conformance cases through this package's session layer.

The format is described in tests/conformance/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gradtape import _wire, dtypes
from gradtape._proto import command_pb2, op_pb2, tensor_pb2
from gradtape._session import Call, Session

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "conformance"
CASES = sorted(FOLDER.glob("*.json"))
MANY = ("attributes", "hyperparameters")


class Replay:
    """One case in a session of its own."""

    def __init__(self, address: str, *, one_at_a_time: bool) -> None:
        self.session = Session(address)
        self.handles: dict[str, int] = {}
        if one_at_a_time:
            self.session._batch_commands = 1

    def run(self, steps: list[dict[str, Any]]) -> None:
        steps = list(flatten(steps))
        replies: dict[int, command_pb2.Reply] = {}

        def keep(reply: command_pb2.Reply) -> None:
            replies[reply.sequence] = reply

        if len(steps) > 1_000:
            # One command a batch shows nothing new after so many, and takes long.
            self.session._batch_commands = min(1_024, 16 * self.session._batch_commands)
        entries = []
        for step in steps:
            data = self.command(step).SerializeToString()
            entries.append(Call(b"\x12" + _wire.varint(len(data)) + data, keep))
        end = Call(_wire.entry(_wire.SYNC, b"", b""))
        self.session._pending += [*entries, end]
        self.session._wake.put(1)
        assert end.done.acquire(timeout=60.0)
        assert end.failure is None
        assert end.reply is not None
        assert end.reply.sequence == len(steps) + 1
        tags = {step["tag"]: i for i, step in enumerate(steps, 1) if "tag" in step}
        for i, step in enumerate(steps, 1):
            self.check(step, replies.get(i) or command_pb2.Reply(), tags)

    # === Steps to commands ===

    def command(self, step: dict[str, Any]) -> command_pb2.Command:
        verb, fields = kind_of(step)
        command = command_pb2.Command(tag=step.get("tag", ""), scope=step.get("scope", 0))
        message = getattr(command, verb)
        message.SetInParent()
        self.fill(message, fields)
        return command

    def fill(self, message: Message, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            if name in ("expect", "tolerance"):
                continue
            field = message.DESCRIPTOR.fields_by_name[name]
            if name in MANY:
                getattr(message, name).extend(attributes_of(value))
            elif name == "tensor":
                message.tensor.CopyFrom(tensor(value))
            elif isinstance(value, dict):
                self.fill(getattr(message, name), value)
            elif isinstance(value, list):
                items = getattr(message, name)
                for item in value:
                    if field.type == FieldDescriptor.TYPE_MESSAGE:
                        self.fill(items.add(), {"gradient": item} if is_name(item) else item)
                    else:
                        items.append(self.scalar(field, item))
            else:
                setattr(message, name, self.scalar(field, value))

    def scalar(self, field: FieldDescriptor, value: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_UINT64:
            return self.handle(value)
        if field.type == FieldDescriptor.TYPE_ENUM:
            return number_of(field.enum_type, value)
        return value

    def handle(self, name: str | None) -> int:
        if name is None:
            return 0
        if name not in self.handles:
            self.handles[name] = _wire.read_varint(self.session.new_handle())
        return self.handles[name]

    # === Replies ===

    def check(self, step: dict[str, Any], reply: command_pb2.Reply, tags: dict[str, int]) -> None:
        __tracebackhide__ = True
        verb, fields = kind_of(step)
        wanted = step.get("error")
        if wanted is None:
            assert not reply.HasField("error"), f"{step}: {reply.error}"
        else:
            assert reply.HasField("error"), f"{step} did not fail"
            assert reply.error.reason == wanted["reason"], reply.error
            if "code" in wanted:
                assert grpc.StatusCode[wanted["code"]].value[0] == reply.error.code, reply.error
            if "root" in wanted:
                assert reply.error.root_sequence == tags[wanted["root"]], reply.error
                assert reply.error.root_tag == wanted["root"], reply.error
            assert reply.error.tag == step.get("tag", "")
        if "warnings" in step:
            assert len(reply.warnings) == step["warnings"], step
        if "expect" in fields and wanted is None:
            getattr(self, f"expect_{verb}")(fields["expect"], reply, fields)

    def expect_fetch(self, expected: Any, reply: command_pb2.Reply, fields: Any) -> None:
        found = tensor(expected)
        assert reply.tensor.dtype == found.dtype, fields
        assert list(reply.tensor.shape) == list(found.shape), fields
        dtype = dtypes.BY_NUMBER[found.dtype].as_numpy_dtype
        actual = np.frombuffer(reply.tensor.data, dtype)
        wanted = np.frombuffer(found.data, dtype)
        tolerance = fields.get("tolerance", 0.0)
        if not tolerance:
            np.testing.assert_array_equal(actual, wanted, str(fields))
            return
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(actual[~finite], wanted[~finite], str(fields))
        room = tolerance * np.maximum(1.0, np.abs(wanted[finite]))
        assert np.all(np.abs(actual[finite] - wanted[finite]) <= room), (fields, actual)

    def expect_describe(self, expected: Any, reply: command_pb2.Reply, fields: Any) -> None:
        assert reply.spec == spec(expected), fields

    def expect_list_watched_variables(
        self, expected: Any, reply: command_pb2.Reply, fields: Any
    ) -> None:
        assert list(reply.variables.variables) == [self.handle(name) for name in expected], fields

    def expect_apply_optimizer(self, expected: Any, reply: command_pb2.Reply, fields: Any) -> None:
        assert reply.optimizer.iterations == expected["iterations"], fields

    def expect_compute_gradient(self, expected: Any, reply: command_pb2.Reply, fields: Any) -> None:
        assert len(reply.gradient.gradients) == len(expected), fields
        kinds, reasons = (
            command_pb2.GradientInfo.DESCRIPTOR.fields_by_name[name].enum_type
            for name in ("kind", "absent_reason")
        )
        for found, wanted in zip(reply.gradient.gradients, expected, strict=True):
            assert found.kind == number_of(kinds, wanted["kind"]), (fields, found)
            if "reason" in wanted:
                assert found.absent_reason == number_of(reasons, wanted["reason"]), (fields, found)
            if "dtype" in wanted:
                assert found.spec.dtype == dtypes.as_dtype(wanted["dtype"]).number, fields
            if "shape" in wanted:
                assert list(found.spec.shape) == wanted["shape"], fields

    def expect_explain(self, expected: Any, reply: command_pb2.Reply, fields: Any) -> None:
        found = reply.explanation
        reasons = command_pb2.ExplainReply.DESCRIPTOR.fields_by_name["absent_reason"].enum_type
        reason = number_of(reasons, expected.get("reason", "unspecified"))
        assert found.absent_reason == reason, (fields, found)
        assert [hop.op for hop in found.path] == expected["path"], (fields, found)
        if "tags" in expected:
            assert [hop.tag for hop in found.path] == expected["tags"], (fields, found)

    def expect_finish_function(self, expected: Any, reply: command_pb2.Reply, fields: Any) -> None:
        assert list(reply.function.results) == [spec(one) for one in expected], fields

    def expect_run_loop(self, expected: Any, reply: command_pb2.Reply, fields: Any) -> None:
        found = reply.loop
        assert found.steps == expected["steps"], fields
        assert found.stopped == expected.get("stopped", False), fields
        reports = [{"step": one.step, "values": list(one.values)} for one in found.reports]
        assert reports == expected["reports"], fields

    expect_compute_jacobian = expect_compute_gradient
    expect_compute_batch_jacobian = expect_compute_gradient
    expect_read_tangent = expect_compute_gradient


def flatten(steps: list[dict[str, Any]]):
    """The steps with their repetitions written out."""
    for step in steps:
        if "repeat" in step:
            for _ in range(step["repeat"]["times"]):
                yield from flatten(step["repeat"]["steps"])
        else:
            yield step


def kind_of(step: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The verb of a step and its fields."""
    kinds = command_pb2.Command.DESCRIPTOR.oneofs_by_name["kind"].fields
    (verb,) = [field.name for field in kinds if field.name in step]
    return verb, step[verb]


def is_name(item: Any) -> bool:
    return item is None or isinstance(item, str)


def number_of(enum: Any, word: str) -> int:
    """The value of an enum whose name ends with a word, after the enum's own name."""
    # Every enum has a value UNSPECIFIED; what stands before it is the prefix of all.
    (zero,) = [name for name in enum.values_by_name if name.endswith("_UNSPECIFIED")]
    return enum.values_by_name[zero.removesuffix("UNSPECIFIED") + word.upper()].number


def spec(value: dict[str, Any]) -> tensor_pb2.TensorSpec:
    number = dtypes.as_dtype(value["dtype"]).number
    return tensor_pb2.TensorSpec(dtype=number, shape=value["shape"])


def tensor(value: dict[str, Any]) -> tensor_pb2.Tensor:
    dtype = dtypes.as_dtype(value["dtype"])
    elements = [float(item) if isinstance(item, str) else item for item in value["data"]]
    data = np.array(elements, dtype.as_numpy_dtype).tobytes()
    return tensor_pb2.Tensor(dtype=dtype.number, shape=value["shape"], data=data)


def attributes_of(values: dict[str, dict[str, Any]]):
    for name, typed in values.items():
        ((kind, value),) = typed.items()
        attribute = op_pb2.Attribute(name=name)
        if kind == "ints":
            attribute.ints_value.SetInParent()
            attribute.ints_value.values.extend(value)
        elif kind == "doubles":
            attribute.doubles_value.values.extend(value)
        elif kind == "dtype":
            attribute.dtype_value = dtypes.as_dtype(value).number
        elif kind == "double":
            attribute.double_value = float(value)
        else:
            setattr(attribute, f"{kind}_value", value)
        yield attribute


def test_there_are_cases() -> None:
    assert len(CASES) > 100


@pytest.mark.parametrize("one_at_a_time", [False, True], ids=["batched", "single"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(address: str, path: Path, one_at_a_time: bool) -> None:
    case = json.loads(path.read_text())
    assert case["name"] == path.stem
    replay = Replay(address, one_at_a_time=one_at_a_time)
    try:
        replay.run(case["steps"])
    finally:
        replay.session.close()
