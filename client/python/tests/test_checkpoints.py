"""Checkpoints: `tf.checkpoints`, `tf.train.Checkpoint`, and files of other programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import gradtape as tf
from gradtape import _context, _server
from gradtape.train import server_name


@pytest.fixture(autouse=True)
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server whose checkpoints are in a folder of the test's."""
    monkeypatch.setenv("GRADTAPE_CHECKPOINT_STORE", str(tmp_path / "store"))
    server = _server.LocalServer()
    monkeypatch.setenv("GRADTAPE_ADDRESS", server.address)
    tf.disconnect()
    yield
    tf.disconnect()
    server.stop()


def new_session() -> None:
    tf.disconnect()


def model(seed: float = 0.0) -> tf.keras.Sequential:
    tf.random.set_seed(3)
    made = tf.keras.Sequential(
        [tf.keras.Input((3,)), tf.keras.layers.Dense(4, "tanh"), tf.keras.layers.Dense(1)]
    )
    for i, weight in enumerate(made.weights):
        weight.assign(np.full(weight.shape, seed + i, np.float32))
    return made


def train(made: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer, steps: int) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(made(x) - 0.5))
        gradients = tape.gradient(loss, made.trainable_variables)
        optimizer.apply_gradients(zip(gradients, made.trainable_variables, strict=True))


def bits(variables: list[tf.Variable]) -> list[bytes]:
    return [variable.numpy().tobytes() for variable in variables]


def test_a_run_goes_on_in_a_new_session_to_the_bit() -> None:
    made, optimizer = model(), tf.keras.optimizers.Adam(0.05)
    generator = tf.random.Generator.from_seed(5)
    generator.normal([3])
    train(made, optimizer, 3)
    saved = tf.train.Checkpoint(model=made, optimizer=optimizer, generator=generator)
    path = saved.save("runs/first/ckpt")
    assert path == "runs/first/ckpt-1"
    train(made, optimizer, 3)
    expected, drawn = bits(made.weights), generator.normal([3]).numpy()
    new_session()

    made, optimizer = model(9.0), tf.keras.optimizers.Adam(0.7)
    generator = tf.random.Generator.from_seed(6)
    train(made, optimizer, 1)
    checkpoint = tf.train.Checkpoint(model=made, optimizer=optimizer, generator=generator)
    checkpoint.restore(tf.train.latest_checkpoint("runs/first")).assert_consumed()
    assert checkpoint.save_counter == 1
    assert optimizer.iterations == 3
    assert optimizer.learning_rate == pytest.approx(0.05, rel=1e-6)
    train(made, optimizer, 3)
    assert bits(made.weights) == expected
    assert (generator.normal([3]).numpy() == drawn).all()


def test_a_downloaded_checkpoint_gives_the_weights_to_any_program(tmp_path: Path) -> None:
    w = tf.Variable([[1.0, -2.5], [0.1, 3.0]], name="w")
    half = tf.Variable(tf.constant([0.5, 1.5], tf.float16), name="half")
    tf.checkpoints.save("x", metadata={"epoch": 3})
    path = tmp_path / "x.safetensors"
    assert tf.checkpoints.download("x", path) == path.read_bytes()
    found = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(found["w"], w.numpy())
    np.testing.assert_array_equal(found["half"], half.numpy())
    assert found["half"].dtype == np.float16
    description = tf.checkpoints.describe("x")
    assert description.tensors["w"] == ("float32", (2, 2))
    assert description.metadata["epoch"] == "3"
    assert [saved.name for saved in tf.checkpoints.list()] == ["x"]
    tf.checkpoints.delete("x")
    assert tf.checkpoints.list() == []
    with pytest.raises(tf.errors.NotFoundError):
        tf.checkpoints.download("x")


def test_a_file_of_another_program_restores_weights(tmp_path: Path) -> None:
    given = {"w": np.float32([1.5, 2.5]), "flags": np.array([True, False])}
    path = tmp_path / "plain.safetensors"
    safetensors.numpy.save_file(given, path)
    w = tf.Variable([0.0, 0.0], name="w")
    flags = tf.Variable([False, False], name="flags")
    optimizer = tf.keras.optimizers.SGD(0.1)
    tf.checkpoints.upload("plain", path)
    with pytest.raises(tf.errors.AlreadyExistsError):
        tf.checkpoints.upload("plain", path)
    with pytest.raises(tf.errors.FailedPreconditionError, match="optimizer"):
        tf.checkpoints.restore("plain")
    tf.checkpoints.restore("plain", weights_only=True)
    np.testing.assert_array_equal(w.numpy(), given["w"])
    np.testing.assert_array_equal(flags.numpy(), given["flags"])
    assert optimizer.iterations == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="invalid"):
        tf.checkpoints.upload("bad", b"not a checkpoint")


def test_a_mismatch_names_everything_and_changes_nothing() -> None:
    kept = tf.Variable([1.0, 2.0])
    tf.checkpoints.save("x", {"kept": kept, "gone": tf.Variable(1)})
    other = tf.Variable([[5.0]])
    with pytest.raises(tf.errors.FailedPreconditionError) as failed:
        tf.checkpoints.restore("x", {"kept": other, "new": kept})
    for part in ('"kept" is float32[2]', '"gone" is only in', '"new" is not in'):
        assert part in str(failed.value)
    assert other.numpy().tolist() == [[5.0]]
    assert kept.numpy().tolist() == [1.0, 2.0]


def test_a_manager_keeps_the_newest() -> None:
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)
    manager = tf.train.CheckpointManager(checkpoint, "./tf_ckpts", max_to_keep=2)
    assert manager.restore_or_initialize() is None
    for i in range(4):
        step.assign(i)
        assert manager.save() == f"./tf_ckpts/ckpt-{i + 1}"
    assert manager.checkpoints == ["./tf_ckpts/ckpt-3", "./tf_ckpts/ckpt-4"]
    assert manager.latest_checkpoint == tf.train.latest_checkpoint("./tf_ckpts")
    step.assign(99)
    checkpoint.restore(manager.checkpoints[0])
    assert step.numpy() == 2
    assert manager.restore_or_initialize() == "./tf_ckpts/ckpt-4"
    assert step.numpy() == 3
    assert tf.train.list_variables("tf_ckpts") == [("step", [])]

    spaced = tf.train.CheckpointManager(
        checkpoint, "spaced", max_to_keep=None, step_counter=step, checkpoint_interval=5
    )
    assert spaced.save() == "spaced/ckpt-5"
    step.assign(7)
    assert spaced.save() is None
    step.assign(8)
    assert spaced.save(checkpoint_number=step) == "spaced/ckpt-8"
    assert spaced.checkpoints == ["spaced/ckpt-5", "spaced/ckpt-8"]


class StopError(Exception):
    pass


def fit(epochs: int, interrupt_after: int | None) -> tuple[tf.keras.Model, list[int]]:
    """Trains with a backup, and says in which epochs."""
    x = np.arange(24, dtype=np.float32).reshape(8, 3) / 24
    y = x.sum(axis=1, keepdims=True)
    made = model()
    made.compile(tf.keras.optimizers.Adam(0.05), "mse")
    seen: list[int] = []

    def note(epoch: int, logs: object) -> None:
        seen.append(epoch)
        if epoch == interrupt_after:
            raise StopError

    backup = tf.keras.callbacks.BackupAndRestore("backups/run")
    noted = tf.keras.callbacks.LambdaCallback(on_epoch_end=note)
    with contextlib.suppress(StopError):
        made.fit(x, y, 4, epochs, verbose=0, shuffle=False, callbacks=[backup, noted])
    return made, seen


def test_a_training_goes_on_where_it_was_interrupted() -> None:
    whole, seen = fit(5, None)
    assert seen == [0, 1, 2, 3, 4]
    assert tf.checkpoints.list() == []
    expected = bits(whole.weights)
    new_session()
    _, seen = fit(5, 2)
    assert seen == [0, 1, 2]
    assert [saved.name for saved in tf.checkpoints.list()] == ["backups--run--backup"]
    new_session()
    made, seen = fit(5, None)
    assert seen == [3, 4]
    assert bits(made.weights) == expected
    assert tf.checkpoints.list() == []


def test_what_a_status_asserts() -> None:
    first, second = tf.Variable(1.0), tf.Variable(2.0)
    path = tf.train.Checkpoint(a=first, b=[second]).write("x")
    only = tf.train.Checkpoint(a=tf.Variable(0.0))
    status = only.read(path).assert_existing_objects_matched().assert_nontrivial_match()
    with pytest.raises(AssertionError, match="b/0"):
        status.assert_consumed()
    more = tf.train.Checkpoint(a=first, c=tf.Variable(5.0))
    with pytest.raises(AssertionError, match="c"):
        more.read(path).expect_partial().assert_existing_objects_matched()
    tf.train.Checkpoint(a=first).restore(None).assert_consumed()


def test_every_kind_of_object_has_a_key() -> None:
    class Counter(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = tf.Variable(0)
            self.parts = [tf.Variable(1.0), {"deep": tf.Variable(2.0)}]
            self.label = "no state"

    compiled = model()
    compiled.compile("sgd", "mse")
    shared = tf.Variable(1.0)
    objects = {
        "model": compiled,
        "counter": Counter(),
        "pair": (shared, shared),
        "scaled": tf.keras.optimizers.LossScaleOptimizer(tf.keras.optimizers.SGD()),
    }
    keys = [key for key, _ in tf.checkpoints.walk(objects)]
    assert keys == [
        "model/dense/kernel",
        "model/dense/bias",
        "model/dense_1/kernel",
        "model/dense_1/bias",
        "model/optimizer",
        "counter/parts/0",
        "counter/parts/1/deep",
        "counter/steps",
        "pair/0",
        "scaled",
    ]
    with pytest.raises(ValueError, match="thing cannot be saved: object"):
        tf.train.Checkpoint(thing=object())


def test_paths_become_names() -> None:
    for path, name in {
        "ckpt-1": "ckpt-1",
        "a/b/ckpt": "a--b--ckpt",
        "./a//b": "a--b",
        "/tmp/run": "tmp--run",
    }.items():
        assert server_name(path) == name
    for path in ("../up", ".hidden", "a--b", "a b", ""):
        with pytest.raises(ValueError, match="cannot be the path"):
            server_name(path)


def test_the_session_goes_on_after_a_refusal() -> None:
    x = tf.Variable(1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="name"):
        tf.checkpoints.save("../up")
    with pytest.raises(tf.errors.NotFoundError):
        tf.train.Checkpoint(x=x).restore("nothing")
    assert x.numpy() == 1.0
    assert _context.session() is x._session
