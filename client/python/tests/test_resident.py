"""Training on examples that stay on the server, in loops there: the bits of step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradtape as tf
from gradtape import _wire
from gradtape._proto import command_pb2
from gradtape._session import Session
from gradtape.keras import data_adapter, examples

keras = tf.keras
layers = keras.layers

COUNT = 44


def data() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Two inputs by name, classes, and weights of the examples."""
    random = np.random.RandomState(1)
    x = {"left": random.normal(size=(COUNT, 3)), "right": random.randint(0, 9, (COUNT, 2))}
    return x, random.randint(0, 3, COUNT), random.uniform(0.5, 2.0, COUNT)


def network(**kwargs: Any) -> Any:
    """Has all that goes on from step to step: dropout, noise, moving averages, a schedule."""
    keras.utils.set_random_seed(1)
    left = keras.Input((3,), name="left")
    right = keras.Input((2,), name="right", dtype="int32")
    codes = layers.Flatten()(layers.Embedding(9, 2)(right))
    hidden = layers.Dense(8, activation="tanh")(layers.Concatenate()([left, codes]))
    dropped = layers.Dropout(0.3)(layers.BatchNormalization()(hidden))
    outputs = layers.Dense(3)(layers.GaussianNoise(0.1, seed=7)(dropped))
    model = keras.Model({"left": left, "right": right}, outputs)
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.7)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(rate), loss, metrics=["accuracy"], weighted_metrics=["accuracy"],
        **kwargs,
    )  # fmt: skip
    return model


class Numbers(keras.callbacks.Callback):
    """Notes the numbers of batches and what was known after them."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.ended: dict[tuple[int, int], dict[str, float]] = {}
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begun.append(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.ended[self._epoch, batch] = dict(logs.items())


def trained(fit: dict[str, Any], **kwargs: Any) -> tuple[list[Any], Numbers]:
    x, y, weights = data()
    model, numbers = network(**kwargs), Numbers()
    validation = ({key: value[:10] for key, value in x.items()}, y[:10], weights[:10])
    history = model.fit(
        x, y, sample_weight=weights, batch_size=8, epochs=3, verbose=0, callbacks=[numbers],
        validation_data=validation, **fit,
    )  # fmt: skip
    evaluated = model.evaluate(x, y, sample_weight=weights, batch_size=8, verbose=0)
    found = [np.asarray(values) for _, values in sorted(history.history.items())]
    # What is drawn next says how far the steps have moved the generator on.
    drawn = tf.random.uniform((2,)).numpy()
    return [*found, *model.get_weights(), np.asarray(evaluated), drawn], numbers


FITS = [{}, {"shuffle": False}, {"class_weight": {0: 0.5, 2: 3.0}}, {"steps_per_epoch": 4}]


@pytest.mark.parametrize("fit", FITS, ids=str)
def test_loops_train_with_the_bits_of_single_steps(
    fit: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch is smaller, the order is NumPy's, and callbacks see what they would have."""
    expected, single = trained(fit, run_eagerly=True)
    steps = len(single.begun) // 3
    assert steps == (4 if "steps_per_epoch" in fit else 6)
    for size in (1, 2, 4, 5, 100):
        found, numbers = trained(fit, steps_per_execution=size)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert numbers.begun == 3 * list(range(0, steps, size))
        for place, logs in numbers.ended.items():
            assert logs == single.ended[place]
        last = [min(first + size, steps) - 1 for first in range(0, steps, size)]
        assert [batch for _, batch in numbers.ended] == 3 * last
    # Nor does it change anything that few rows are gathered at once, or that arrays do not stay.
    monkeypatch.setattr(examples, "_MOST_GATHERED", 2 * 8 * (3 * 4 + 2 * 8 + 8 + 4))
    found, numbers = trained(fit, steps_per_execution=100)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    monkeypatch.setattr(data_adapter, "fit_in_session", lambda size: False)
    for found, _ in (trained(fit, steps_per_execution=4), trained(fit)):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def sent(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The commands that are sent, from now on."""
    entries: list[bytes] = []
    append = session.append
    monkeypatch.setattr(session, "append", lambda entry: (entries.append(entry), append(entry))[1])
    return entries


def kinds(entries: list[bytes]) -> list[str]:
    commands = map(command_pb2.Command.FromString, map(_wire.command_of, entries))
    return [command.WhichOneof("kind") for command in commands]


def line(count: int, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.RandomState(2).normal(size=(count, width)).astype(np.float32)
    return x, x[:, :1] + 1.0


def linear(**kwargs: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(1)])
    model.compile("sgd", "mse", **kwargs)
    return model


def test_examples_are_sent_once(sent: list[bytes]) -> None:
    x, y = line(160)
    model = linear(steps_per_execution=5)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert "run_loop" in kinds(sent)
    del sent[:]
    model.fit(x, y, batch_size=16, epochs=8, verbose=0)
    assert sum(map(len, sent)) < 1.5 * x.nbytes
    assert kinds(sent).count("run_loop") == 16
    assert "call_function" not in kinds(sent)
    # Those of one step too.
    model = linear()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    del sent[:]
    model.fit(x, y, batch_size=16, epochs=8, verbose=0)
    assert sum(map(len, sent)) < 2.0 * x.nbytes
    assert kinds(sent).count("call_function") == 80


def test_few_rows_are_gathered_at_once(sent: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = line(160)
    monkeypatch.setattr(examples, "_MOST_GATHERED", 4 * 16 * (64 + 1) * 4)
    model = linear(steps_per_execution=10)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    del sent[:]
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    # Of ten batches four, four and two.
    assert kinds(sent).count("run_loop") == 2 * 3


def test_too_many_examples_do_not_stay(session: Session, sent: list[bytes]) -> None:
    x, y = line(160)
    session.most_bytes = 4 * (x.nbytes + y.nbytes) - 1
    model = linear(steps_per_execution=5)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0)
    assert "run_loop" not in kinds(sent)
    session.most_bytes += 1
    model.fit(x, y, batch_size=16, epochs=3, verbose=0)
    assert kinds(sent).count("run_loop") == 6


def test_batches_of_a_generator_are_calls_of_several_steps(sent: list[bytes]) -> None:
    x, y = line(160)

    def generator() -> Iterator[Any]:
        for at in range(0, 160, 16):
            yield x[at : at + 16], y[at : at + 16]

    found = []
    for size in (1, 4):
        model = linear(steps_per_execution=size)
        model.fit(generator(), verbose=0)
        del sent[:]
        model.fit(generator(), verbose=0)
        assert kinds(sent).count("call_function") == -(-10 // size)
        assert "run_loop" not in kinds(sent)
        found.append([value.tobytes() for value in model.get_weights()])
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_ctrl_c_stops_the_loop(method: str) -> None:
    class Counting(keras.Model):
        """Counts the steps that were done."""

        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(1)
            self.steps = tf.Variable(0, trainable=False)

        def call(self, x: Any) -> Any:
            self.steps.assign_add(1)
            return self.dense(x)

    class Interrupted(keras.callbacks.Callback):
        """Is where Python raises what Ctrl-C means, while the server is at it."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

        on_test_batch_end = on_train_batch_end

    x, y = line(50_000)
    model = Counting()
    model.compile("sgd", "mse", steps_per_execution=50_000)
    model.fit(x[:4], y[:4], batch_size=1, verbose=0)
    model.steps.assign(0)
    with pytest.raises(KeyboardInterrupt):
        getattr(model, method)(x, y, batch_size=1, verbose=0, callbacks=[Interrupted()])
    assert int(model.steps) < 50_000
    # Nobody is told of what was stopped, and training goes on.
    tf.synchronize()
    model.steps.assign(0)
    loss = model.fit(x[:64], y[:64], batch_size=1, verbose=0).history["loss"]
    assert int(model.steps) == 64
    assert np.isfinite(loss[0])


def test_what_a_step_makes_late_is_made() -> None:
    class Late(keras.Model):
        """Makes a variable in its second step."""

        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(1)
            self.calls = 0
            self.late: Any = None

        def call(self, x: Any) -> Any:
            self.calls += 1
            if self.calls > 1 and self.late is None:
                self.late = tf.Variable(0.0, trainable=False)
            if self.late is not None:
                self.late.assign_add(1.0)
            return self.dense(x)

    x, y = line(64)
    model = Late()
    model.compile("sgd", "mse", steps_per_execution=16)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert float(model.late) == 31.0


def test_functions_that_run_eagerly_are_no_loops(sent: list[bytes]) -> None:
    x, y = line(64)
    model = linear(steps_per_execution=4)
    tf.config.run_functions_eagerly(True)
    try:
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    finally:
        tf.config.run_functions_eagerly(False)
    assert not {"run_loop", "call_function", "define_function"} & set(kinds(sent))
