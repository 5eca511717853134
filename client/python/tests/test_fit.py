"""`fit` and what is around it: histories, callbacks, files, custom steps, functional models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as tf
from gradtape._session import Session

keras = tf.keras
layers = keras.layers


def line(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.RandomState(1).normal(size=(count, 3)).astype(np.float32)
    return x, x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3


def linear(**kwargs: Any) -> Any:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", **kwargs)
    return model


def test_fit_learns_a_line_and_returns_its_history() -> None:
    x, y = line()
    model = linear(metrics=["mae"])
    history = model.fit(x, y, batch_size=16, epochs=20, verbose=0, validation_split=0.25)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    assert history.epoch == list(range(20))
    assert history.history["val_loss"][-1] < 1e-3
    np.testing.assert_allclose(model.get_weights()[0][:, 0], [1.0, -2.0, 0.5], atol=0.02)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] < 1e-3
    predictions = model.predict(x, batch_size=5, verbose=0)
    np.testing.assert_allclose(predictions, y, atol=0.1)
    np.testing.assert_allclose(model.predict_on_batch(x), predictions, rtol=1e-5, atol=1e-6)


def test_a_step_of_fit_asks_the_server_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.RandomState(1).normal(size=(80, 6, 6, 1)).astype(np.float32)
    y = np.arange(80) % 3
    model = keras.Sequential([
        keras.Input((6, 6, 1)), layers.Conv2D(2, 3), layers.BatchNormalization(),
        layers.Dropout(0.5), layers.Flatten(), layers.Dense(3, kernel_regularizer="l2"),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy", keras.metrics.Mean(name="m")][:1])
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    asked: list[int] = []
    call = session.call
    monkeypatch.setattr(
        session, "call", lambda kind, *args: (asked.append(kind), call(kind, *args))[1]
    )
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    # Two numbers at the end of each epoch.
    assert len(asked) == 4


def test_data_may_come_in_many_ways() -> None:
    x, y = line(40)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    def generator() -> Any:
        for i in range(0, 40, 8):
            yield x[i : i + 8], y[i : i + 8]

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return x[index * 8 : index * 8 + 8], y[index * 8 : index * 8 + 8]

    found = []
    for source in ((x, y), (tf.constant(x), tf.constant(y)), data, generator(), Batches(super)):
        model = linear()
        model.set_weights([np.zeros((3, 1)), np.zeros(1)])
        given = source if isinstance(source, tuple) else (source,)
        batch = {"batch_size": 8} if isinstance(source, tuple) else {}
        history = model.fit(*given, epochs=1, shuffle=False, verbose=0, **batch)
        found.append(history.history["loss"][0])
    assert found == pytest.approx([found[0]] * 5, rel=1e-6)
    model = linear()
    model.fit(data.repeat(), epochs=3, steps_per_epoch=7, verbose=0)
    assert model.optimizer.iterations == 21
    with pytest.raises(ValueError, match="cardinality"):
        model.fit(x, y[:3], verbose=0)
    with pytest.raises(ValueError, match="compile"):
        keras.Sequential([layers.Dense(1)]).fit(x, y)


def test_callbacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = line()
    seen: list[Any] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append((batch, logs["loss"]))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(sorted(logs))

    model = linear()
    callbacks = keras.callbacks
    path = str(tmp_path / "w{epoch}-{loss:.1f}.safetensors")
    history = model.fit(
        x, y, 32, 3, verbose=0,
        callbacks=[
            Watch(), callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
            callbacks.CSVLogger(tmp_path / "log.csv"), callbacks.TerminateOnNaN(),
            callbacks.ModelCheckpoint(path, save_weights_only=True, monitor="loss"),
            callbacks.LambdaCallback(on_train_begin=lambda logs: seen.append("begin")),
        ],
    )  # fmt: skip
    assert seen[0] == "begin"
    assert [entry[0] for entry in seen if isinstance(entry, tuple)] == [0, 1] * 3
    assert all(isinstance(entry[1], float) for entry in seen if isinstance(entry, tuple))
    assert history.history["learning_rate"] == pytest.approx([0.05, 0.025, 0.0125])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert len(list(tmp_path.glob("w*.safetensors"))) == 3
    # With a learning rate of 0 nothing gets better: the best weights come back.
    model.optimizer.learning_rate = 0.0
    stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    assert len(model.fit(x, y, epochs=20, verbose=0, shuffle=False, callbacks=[stop]).epoch) == 3
    plateau = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_lr=0.01)
    model.optimizer.learning_rate = 0.1
    nothing = [np.full((3, 1), np.nan), np.zeros(1)]
    model.set_weights(nothing)
    model.fit(x, y, epochs=4, verbose=0, callbacks=[plateau])
    assert model.optimizer.learning_rate == pytest.approx(0.0125)
    assert (
        len(model.fit(x, y, epochs=4, verbose=0, callbacks=[callbacks.TerminateOnNaN()]).epoch) == 1
    )
    assert "Invalid loss" in capsys.readouterr().out


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = line()
    model = linear(metrics=["mae"])
    model.fit(x, y, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("2/2 ") and " - loss: " in lines[1] and " - mae: " in lines[1]
    model.fit(x, y, epochs=1, verbose=1)
    assert "━━━━" in capsys.readouterr().out
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)
    assert capsys.readouterr().out == ""


def test_weights_go_to_a_file_and_back(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")

    def make() -> Any:
        inner = keras.Sequential([layers.Dense(2), layers.Dense(2)], name="inner")
        return keras.Sequential([keras.Input((3,)), inner, layers.BatchNormalization()])

    path = tmp_path / "weights.safetensors"
    one, two = make(), make()
    one.set_weights([np.full(v.shape, i + 0.5, np.float32) for i, v in enumerate(one.weights)])
    one.save_weights(path)
    names = sorted(safetensors.load_file(path))
    assert names[:3] == [
        "batch_normalization/beta", "batch_normalization/gamma", "batch_normalization/moving_mean",
    ]  # fmt: skip
    assert {"inner/dense/kernel", "inner/dense_1/bias"} <= set(names)
    two.load_weights(path)
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        assert np.array_equal(first, second)
    other = keras.Sequential([keras.Input((3,)), layers.Dense(7)])
    before = other.get_weights()[0]
    with pytest.raises(ValueError, match="do not fit"):
        other.load_weights(path)
    with pytest.warns(UserWarning, match="do not fit"):
        other.load_weights(path, skip_mismatch=True)
    assert np.array_equal(other.get_weights()[0], before)
    with pytest.raises(ValueError, match="safetensors"):
        one.save_weights(tmp_path / "model.h5")
    with pytest.raises(FileExistsError):
        one.save_weights(path, overwrite=False)


def test_a_functional_model_computes_what_led_from_inputs_to_outputs() -> None:
    image = keras.Input((4, 4, 1), name="image")
    number = keras.Input((2,), name="number")
    x = layers.Flatten()(layers.Conv2D(2, 3)(image))
    shared = layers.Dense(3, name="shared")
    both = layers.Concatenate()([shared(number), shared(number * 2.0), x])
    first = layers.Dense(2, name="first")(both)
    second = layers.Dense(1, name="second")(both - 1.0)
    model = keras.Model([image, number], [first, second])
    assert first.shape == (None, 2)
    assert [layer.name for layer in model.layers].count("shared") == 1
    a, b = np.ones((5, 4, 4, 1), np.float32), np.ones((5, 2), np.float32)
    outputs = model([a, b])
    assert [tuple(o.shape) for o in outputs] == [(5, 2), (5, 1)]
    named = model({"number": b, "image": a})
    assert np.array_equal(named[0].numpy(), outputs[0].numpy())
    # A part of it is a model too, with the same weights.
    part = keras.Model(model.inputs, model.get_layer("first").output)
    assert np.array_equal(part([a, b]).numpy(), outputs[0].numpy())
    model.compile(
        "sgd", {"first": "mse", "second": "mae"}, metrics={"second": ["mse"]},
        loss_weights={"first": 1.0, "second": 0.0},
    )  # fmt: skip
    history = model.fit([a, b], {"first": np.ones((5, 2)), "second": np.ones((5, 1))}, verbose=0)
    assert set(history.history) == {"loss", "first_loss", "second_loss", "second_mse"}
    assert history.history["loss"] == history.history["first_loss"]
    other = keras.Input((2,))
    with pytest.raises(ValueError, match="not among"):
        keras.Model(other, first)


def test_unknown_extents_stay_unknown() -> None:
    text = keras.Input((None,), dtype="int32")
    states = layers.LSTM(4, return_sequences=True)(layers.Embedding(9, 3)(text))
    assert states.shape == (None, None, 4)
    model = keras.Model(text, layers.GlobalAveragePooling1D()(states))
    assert model.output.shape == (None, 4)
    for steps in (2, 5):
        assert model(np.ones((3, steps), np.int32)).shape == (3, 4)


def test_masks_follow_the_time_steps_that_they_are_about() -> None:
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0]], np.int32)
    embedding = layers.Embedding(5, 3, mask_zero=True)
    lstm = layers.LSTM(2)
    masked = lstm(embedding(ids)).numpy()
    alone = lstm(embedding(ids[:1, :2])).numpy()
    np.testing.assert_allclose(masked[0], alone[0], rtol=1e-5, atol=1e-6)


def test_a_model_may_train_in_its_own_way() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(1)
            self.seen = keras.metrics.Mean(name="seen")

        def call(self, x: Any) -> Any:
            return self.dense(x)

        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            self.seen.update_state(loss)
            return {"own": self.seen.result()}

    x, y = line()
    model = Own()
    model.compile("sgd", "mse")
    history = model.fit(x, y, epochs=3, verbose=0)
    assert list(history.history) == ["own"]
    assert history.history["own"][2] < history.history["own"][0]


def test_penalties_and_constraints() -> None:
    class Penalized(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(tf.reduce_sum(x) * 0.5)
            return x

    model = keras.Sequential(
        [Penalized(), layers.Dense(2, kernel_regularizer=keras.regularizers.L1(0.1))]
    )
    model(np.ones((2, 3), np.float32))
    kernel = model.layers[1].kernel.numpy()
    assert [float(loss) for loss in model.losses] == pytest.approx(
        [3.0, 0.1 * np.abs(kernel).sum()]
    )
    constrained = keras.Sequential([layers.Dense(1, kernel_constraint="non_neg")])
    constrained.compile("sgd", "mse")
    constrained.fit(np.ones((8, 2), np.float32), -np.ones((8, 1)), epochs=5, verbose=0)
    assert (constrained.get_weights()[0] >= 0.0).all()
    variable = tf.Variable([3.0, 4.0], constraint=keras.constraints.UnitNorm())
    keras.optimizers.SGD(0.0001).apply_gradients([(tf.zeros((2,)), variable)])
    np.testing.assert_allclose(variable.numpy(), [0.6, 0.8], rtol=1e-5)


def test_summary_lists_the_layers() -> None:
    printed: list[str] = []
    model = linear()
    model.summary(print_fn=printed.append)
    assert "(None, 1)" in printed[0] and "Total params: 4 (16.00 B)" in printed[0]


def test_what_fails_on_the_server_names_the_users_line() -> None:
    model = keras.Sequential([layers.Lambda(lambda x: tf.matmul(x, tf.ones((5, 5))))])
    model.compile("sgd", "mse")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"test_fit\.py:\d+") as caught:
        model.predict(np.ones((2, 3), np.float32), verbose=0)
    assert caught.value.tag.startswith("test_fit.py:")


def test_a_decorated_function_runs_as_it_is() -> None:
    calls: list[float] = []

    @tf.function(jit_compile=True)
    def square(x: Any) -> Any:
        calls.append(1.0)
        return x * x

    assert [float(square(tf.constant(3.0))), float(square(tf.constant(2.0)))] == [9.0, 4.0]
    assert len(calls) == 2
    assert tf.function(square.python_function)(2.0) == 4.0


def test_tensors_and_arrays_of_other_libraries() -> None:
    x = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    assert np.array_equal(np.from_dlpack(x), x.numpy())
    assert np.asarray(x).sum() == 10.0
    dlpack = tf.experimental.dlpack
    back = dlpack.from_dlpack(dlpack.to_dlpack(tf.Variable([1, 2, 3])))
    assert back.dtype is tf.int32 and back.numpy().tolist() == [1, 2, 3]
    assert dlpack.from_dlpack(np.ones((2, 3))).dtype is tf.float64

    class Foreign:
        """As a tensor of PyTorch: it converts to an array."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.full((2, 2), 2.0, np.float32)

    assert tf.add(x, Foreign()).numpy().tolist() == [[3.0, 4.0], [5.0, 6.0]]
    assert layers.Dense(1, kernel_initializer="ones")(Foreign()).numpy().tolist() == [[4.0], [4.0]]


def test_layers_and_models_can_be_made_again() -> None:
    dense = layers.Dense(3, activation="tanh", name="hidden")
    again = layers.Dense.from_config(dense.get_config())
    assert (again.units, again.activation, again.name) == (3, keras.activations.tanh, "hidden")
    lstm = layers.LSTM.from_config(layers.LSTM(2, return_sequences=True).get_config())
    assert lstm.compute_output_shape((None, 5, 4)) == (None, 5, 2)
    entry = keras.Input((3,))
    shared = layers.Dense(3, name="twice")
    functional = keras.Model(entry, layers.Add()([shared(shared(entry)), entry * 2.0]))
    for model in (functional, linear()):
        copy = keras.models.clone_model(model)
        assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]
        assert all(a is not b for a, b in zip(copy.weights, model.weights, strict=True))
        copy.set_weights(model.get_weights())
        x = np.ones((2, 3), np.float32)
        assert np.array_equal(copy(x).numpy(), model(x).numpy())


def test_sequences_are_padded_as_keras_does() -> None:
    pad = keras.utils.pad_sequences
    rows = [[1], [2, 3, 4], []]
    assert pad(rows).tolist() == [[0, 0, 1], [2, 3, 4], [0, 0, 0]]
    assert pad(rows, 2, padding="post", value=9).tolist() == [[1, 9], [3, 4], [9, 9]]
    assert pad(rows, 2, truncating="post").tolist() == [[0, 1], [2, 3], [0, 0]]
