"""How a model's steps run: as functions with the bits of eager steps, several in one command."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradtape as tf
from gradtape import _wire
from gradtape._proto import command_pb2
from gradtape._session import Session

keras = tf.keras
layers = keras.layers


def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.RandomState(1).normal(size=(count, 6, 6, 1)).astype(np.float32)
    return x, np.arange(count) % 3


def network(**kwargs: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((6, 6, 1)), layers.Conv2D(2, 3, activation="relu"), layers.BatchNormalization(),
        layers.Dropout(0.5), layers.Flatten(), layers.Dense(3, kernel_regularizer="l2"),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **kwargs)
    return model


def trained(**kwargs: Any) -> list[Any]:
    """Everything that a training gives; its last batch is smaller, and its rate falls."""
    x, y = examples(44)
    model = network(**kwargs)
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1))
    history = model.fit(
        x, y, batch_size=8, epochs=3, verbose=0, validation_split=0.25, callbacks=[schedule]
    )
    numbers = [np.asarray(values) for _, values in sorted(history.history.items())]
    return [*numbers, *model.get_weights(), model.predict(x, batch_size=8, verbose=0)]


@pytest.mark.parametrize(
    "settings",
    [{}, {"jit_compile": True}, {"steps_per_execution": 2}, {"steps_per_execution": 100}],
    ids=str,
)
def test_a_function_trains_with_the_bits_of_eager_steps(settings: dict[str, Any]) -> None:
    for found, eager in zip(trained(**settings), trained(run_eagerly=True), strict=True):
        np.testing.assert_array_equal(found, eager)


@pytest.mark.parametrize(("size", "calls"), [(1, 10), (4, 3), (10, 1)])
def test_an_execution_is_one_command(
    size: int, calls: int, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = examples(80)
    model = network(steps_per_execution=size)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    sent = commands(session, monkeypatch)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    assert sent.count("call_function" if size == 1 else "run_loop") == calls
    assert sent.count("call_function") + sent.count("run_loop") == calls
    assert "define_function" not in sent


def commands(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list to which the kinds of the commands that are sent are appended."""
    sent: list[str] = []
    append = session.append

    def note(entry: bytes) -> None:
        command = command_pb2.Command.FromString(_wire.command_of(entry))
        sent.append(command.WhichOneof("kind"))
        append(entry)

    monkeypatch.setattr(session, "append", note)
    return sent


def test_callbacks_hear_of_executions() -> None:
    heard: list[tuple[str, int]] = []

    class Listens(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            heard.append(("begin", batch))

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            heard.append(("end", batch))

    x, y = examples(56)
    model = network(steps_per_execution=3)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[Listens()])
    steps = [(0, 2), (3, 5), (6, 6)]
    assert heard == [event for a, b in steps for event in (("begin", a), ("end", b))]
    with pytest.raises(ValueError, match="steps_per_execution"):
        network(steps_per_execution=0)


def test_on_batch_methods_give_the_bits_of_eager_steps() -> None:
    x, y = examples(24)
    found = []
    for eagerly in (True, False):
        model = network(run_eagerly=eagerly)
        numbers = [model.train_on_batch(x, y) for _ in range(4)]
        numbers += [model.test_on_batch(x, y) for _ in range(3)]
        found.append((numbers, [model.predict_on_batch(x).tolist() for _ in range(3)]))
    assert found[0] == found[1]


def test_what_cannot_be_traced_says_so_and_runs_eagerly_when_asked() -> None:
    class Reads(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            logs = super().train_step(data)
            seen.append(float(logs["loss"]))
            return logs

    x, y = examples(24)
    for eagerly in (False, True):
        seen: list[float] = []
        model = Reads([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=eagerly)
        if eagerly:
            model.fit(x, y, batch_size=8, verbose=0)
            assert len(seen) == 3
        else:
            with pytest.raises(NotImplementedError, match="run_eagerly=True"):
                model.fit(x, y, batch_size=8, verbose=0)


def test_a_layer_that_is_frozen_between_two_fits_stays_as_it_is() -> None:
    x, y = examples(24)
    model = network()
    model.fit(x, y, batch_size=8, verbose=0)
    model.layers[0].trainable = False
    frozen = [weight.numpy() for weight in model.layers[0].weights]
    others = model.layers[-1].get_weights()
    model.fit(x, y, batch_size=8, verbose=0)
    for before, weight in zip(frozen, model.layers[0].weights, strict=True):
        np.testing.assert_array_equal(before, weight.numpy())
    assert not np.array_equal(others[0], model.layers[-1].get_weights()[0])


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_steps_that_look_for_a_loss_scale_have_the_bits_of_eager_ones(steps: int) -> None:
    def trained(**settings: Any) -> tuple[float, int, list[Any]]:
        x, y = examples(44)
        model = network()
        # So large that gradients overflow, and steps are skipped until it has come down.
        sgd = keras.optimizers.SGD(0.1)
        scaled = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=2.0**127)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(scaled, loss, **settings)
        assert model.run_eagerly is settings.get("run_eagerly", False)
        model.fit(x, y, batch_size=8, epochs=3, verbose=0)
        return float(scaled.dynamic_scale), int(sgd.iterations), model.get_weights()

    scale, iterations, weights = trained(steps_per_execution=steps)
    eager_scale, eager_iterations, eager_weights = trained(run_eagerly=True)
    assert scale == eager_scale < 2.0**127
    assert iterations == eager_iterations < 18
    for weight, eager in zip(weights, eager_weights, strict=True):
        np.testing.assert_array_equal(weight, eager)
