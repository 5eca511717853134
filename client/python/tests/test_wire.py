"""The bytes that `_wire` writes, read with the modules that protoc generated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

import gradtape as tf
from gradtape import _wire
from gradtape._proto import command_pb2, op_pb2, tape_service_pb2, tensor_pb2
from gradtape._session import Session

WIDTH = 5
NUMBERS = [0, 1, 127, 128, 300, 1 << 28, (1 << 35) - 1, (1 << 64) - 1]


def parse(*entries: bytes) -> list[command_pb2.Command]:
    """Reads entries as the server does, and insists that it knows every field of them."""
    batch = command_pb2.Batch.FromString(b"".join(entries))
    known(batch)
    assert batch.first_sequence == batch.acknowledged_sequence == 0
    return list(batch.commands)


def known(message: Message) -> None:
    assert len(UnknownFieldSet(message)) == 0, message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
                known(item)


@pytest.mark.parametrize("number", NUMBERS)
def test_varint_is_protobufs(number: int) -> None:
    message = command_pb2.Fetch(value=number)
    assert _wire.number_field(1, number) == message.SerializeToString()
    assert _wire.read_varint(_wire.varint(number)) == number


@pytest.mark.parametrize("number", [-1, -128, -(1 << 63), (1 << 63) - 1])
def test_signed_numbers_are_protobufs(number: int) -> None:
    expected = op_pb2.Attribute(name="axis", int_value=number)
    assert op_pb2.Attribute.FromString(_wire.attribute("axis", number)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, {"bool_value": True}),
        (False, {"bool_value": False}),
        (0, {"int_value": 0}),
        (7, {"int_value": 7}),
        (0.0, {"double_value": 0.0}),
        (-1.5, {"double_value": -1.5}),
        (math.inf, {"double_value": math.inf}),
        ("SAME", {"string_value": "SAME"}),
        ("", {"string_value": ""}),
        (tf.int64, {"dtype_value": tensor_pb2.DATA_TYPE_INT64}),
        ((), {"ints_value": {"values": []}}),
        ([1, -1, 1 << 40], {"ints_value": {"values": [1, -1, 1 << 40]}}),
    ],
)
def test_attributes(value, expected) -> None:
    """Every type, also where the value is the field's default and might be left out."""
    found = op_pb2.Attribute.FromString(_wire.attribute("some", value))
    known(found)
    assert found == op_pb2.Attribute(name="some", **expected)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 300, 1)])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.int32, tf.int64, tf.bool])
def test_spec(dtype: tf.DType, shape: tuple[int, ...]) -> None:
    found = tensor_pb2.TensorSpec.FromString(_wire.spec(dtype, shape))
    assert found == tensor_pb2.TensorSpec(dtype=dtype.number, shape=shape)


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 129, 16_383, 16_384, 100_000])
def test_entry_of_any_size(size: int) -> None:
    body = _wire.bytes_field(2, b"x" * size) + _wire.handle_field(1, _wire.varint(1 << 28))
    entry = _wire.entry(_wire.CREATE_VARIABLE, body, _wire.suffix("train.py:12", 3))
    (command,) = parse(entry)
    assert len(command.create_variable.name) == size
    assert command.create_variable.variable == 1 << 28
    assert (command.tag, command.scope) == ("train.py:12", 3)
    assert command_pb2.Command.FromString(_wire.command_of(entry)) == command


@pytest.mark.parametrize("tag", ["", "train.py:12", "naïve.py:1", "é" * 300])
def test_tag_is_at_most_256_bytes(tag: str) -> None:
    (command,) = parse(_wire.entry(_wire.SYNC, b"", _wire.suffix(tag, 0)))
    assert command.tag == tag[: len(command.tag)]
    assert len(command.tag.encode()) <= 256
    assert command.WhichOneof("kind") == "sync"


@pytest.mark.parametrize("inputs", [0, 1, 2, 25, 26, 30, 4_000])
@pytest.mark.parametrize("outputs", [1, 30])
def test_template(inputs: int, outputs: int) -> None:
    template = _wire.OpTemplate("concat", {"axis": -1}, inputs, outputs)
    blank = template.blank(WIDTH, _wire.suffix("100%b.py:1", 1))
    handles = [_wire.varint((1 << 28) + i) for i in range(inputs + outputs)]
    assert {len(handle) for handle in handles} == {WIDTH}
    (command,) = parse(blank % tuple(handles))
    expected = op_pb2.Op(
        name="concat",
        inputs=range(1 << 28, (1 << 28) + inputs),
        outputs=range((1 << 28) + inputs, (1 << 28) + inputs + outputs),
        attributes=[op_pb2.Attribute(name="axis", int_value=-1)],
    )
    assert command == command_pb2.Command(op=expected, tag="100%b.py:1", scope=1)


def test_templates_are_told_apart_by_type() -> None:
    values = [True, 1, 1.0, "1", (1,), False, 0, 0.0]
    templates = {_wire.template("op", {"a": value}, 1) for value in values}
    assert len(templates) == len(values)
    assert _wire.template("op", {"a": 1}, 1) is _wire.template("op", {"a": 1}, 1)
    assert _wire.template("op", {"a": 1}, 1, 2) is not _wire.template("op", {"a": 1}, 1)


def test_batch() -> None:
    entries = _wire.entry(_wire.SYNC, b"", b"") * 3
    request = tape_service_pb2.StreamRequest.FromString(_wire.batch(300, 299, entries))
    known(request)
    assert request.batch.first_sequence == 300
    assert request.batch.acknowledged_sequence == 299
    assert [c.WhichOneof("kind") for c in request.batch.commands] == ["sync"] * 3


def test_every_kind_that_the_package_sends(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[bytes] = []
    append = session.append

    def record(entry: bytes) -> None:
        entries.append(bytes(entry))
        append(entry)

    monkeypatch.setattr(session, "append", record)
    monkeypatch.setattr(session, "append_from_finalizer", record)

    x = tf.constant([1.0, 2.0])
    v = tf.Variable(x, name="weights")
    frozen = tf.Variable([[1, 2], [3, 4]], trainable=False, dtype=tf.float32)
    tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
    with tape:
        tape.watch([x, v])
        y = x * v + v.read_value()
        with tape.stop_recording():
            _ = -y
        tape.gradient(y, [x, v], output_gradients=[x], unconnected_gradients="zero")
        tape.jacobian(y, x)
        tape.batch_jacobian(frozen * frozen, frozen)
        assert tape.watched_variables() == (v,)
        tf.recompute_grad(tf.exp)(x)
        tf.grad_pass_through(tf.round)(x)
        assert tape.explain(y, v).connected
        tape.reset()
    with tf.autodiff.ForwardAccumulator(x, x) as accumulator:
        accumulator.jvp(x * x)
    v.assign(y).assign_add(x).assign_sub(x)
    rows = tf.IndexedSlices(tf.constant([[5.0, 6.0]]), tf.constant([1]))
    frozen.scatter_update(rows).scatter_add(rows).scatter_sub(rows)
    assert frozen.numpy().tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert y.shape == (2,)
    optimizer = tf.keras.optimizers.Adam(learning_rate=0.5)
    optimizer.apply_gradients([(x, v)])
    optimizer.learning_rate = 0.25
    assert optimizer.iterations == 1
    generator = tf.random.Generator.from_seed(3)
    generator.normal([2])
    tf.checkpoints.save("wire", {"v": v}, overwrite=True)
    tf.checkpoints.restore("wire", {"v": v})
    doubled = tf.function(lambda x: x * 2.0)
    assert doubled(x).numpy().tolist() == [2.0, 4.0]
    loop = tf.experimental.run_loop(doubled, 3, datasets=[x], batch_size=1, shuffle_seed=-1)
    loop.wait()

    def flow(a: Any) -> Any:
        b = tf.cond(a > 1.0, lambda: a, lambda: -a)
        (c,) = tf.while_loop(lambda n: n < 9.0, lambda n: (n * 2.0,), (b,))
        return tf.scan(lambda n, k: n + k, tf.ones(100), initializer=c)

    assert len(tf.function(flow).explain(tf.constant(3.0)).steps) > 0
    tf.synchronize()
    del tape
    x = y = None
    tf.synchronize()

    commands = parse(*entries)
    kinds = {command.WhichOneof("kind") for command in commands}
    every = {field.name for field in command_pb2.Command.DESCRIPTOR.oneofs_by_name["kind"].fields}
    # The writer adds releases by itself.
    assert kinds == every - {"release"}
    assert {command.tag.split(":")[0] for command in commands} <= {"test_wire.py", ""}

    by_kind = {
        kind: [getattr(c, kind) for c in commands if c.WhichOneof("kind") == kind] for kind in kinds
    }
    weights, matrix = by_kind["create_variable"]
    assert weights.name == "weights"
    assert not weights.HasField("trainable") or weights.trainable
    assert matrix.HasField("trainable")
    assert not matrix.trainable
    (opened,) = by_kind["open_tape"]
    assert opened.persistent
    assert opened.HasField("watch_accessed_variables")
    assert not opened.watch_accessed_variables
    (gradient,) = by_kind["compute_gradient"]
    assert gradient.tape == opened.tape
    assert len(gradient.sources) == len(gradient.outputs) == 2
    assert len(gradient.targets) == len(gradient.output_gradients) == 1
    assert gradient.unconnected_gradients == command_pb2.UNCONNECTED_GRADIENTS_ZERO
    assert [a.mode for a in by_kind["assign_variable"]] == [1, 2, 3]
    assert [s.mode for s in by_kind["scatter_variable"]] == [1, 2, 3]
    (created,) = by_kind["create_optimizer"]
    assert created.name == "adam"
    assert {a.name: a.double_value for a in created.hyperparameters}["learning_rate"] == 0.5
    (applied,) = by_kind["apply_optimizer"]
    assert [pair.variable for pair in applied.pairs] == [weights.variable]
    (state,) = by_kind["next_generator_state"]
    assert state.draws >= 2
    tensors = [constant.tensor for constant in by_kind["constant"]]
    assert np.frombuffer(tensors[0].data, "<f4").tolist() == [1.0, 2.0]
    assert tensors[0].dtype == tensor_pb2.DATA_TYPE_FLOAT32
    assert list(tensors[0].shape) == [2]


def test_release_of_what_died(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    batch = _wire.batch

    def record(first: int, acknowledged: int, entries: bytes) -> bytes:
        sent.append(entries)
        return batch(first, acknowledged, entries)

    monkeypatch.setattr(_wire, "batch", record)
    x = tf.constant([1.0, 2.0, 3.0])
    handle = _wire.read_varint(x._handle)
    del x
    # The writer releases when it starts to flush, which may have been before the tensor died.
    for _ in range(100):
        tf.synchronize()
        releases = [c.release for c in parse(*sent) if c.WhichOneof("kind") == "release"]
        if any(handle in release.handles for release in releases):
            return
    raise AssertionError("a dead tensor's handle was never released")
