"""What Keras has besides layers that compute: policies, random numbers, utilities, callbacks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as tf

sys.path.insert(0, str(Path(__file__).parent / "keras_golden"))
import cases

keras, layers = tf.keras, tf.keras.layers
wave = cases.wave


# === Mixed precision ===

# The losses of four epochs that Keras 3.15 with TensorFlow 2.21 computes for the model below.
MIXED = {
    "mixed_bfloat16": ([1.119131, 1.076269, 1.039609, 0.981937], 8e-3),
    "mixed_float16": ([1.117677, 1.076856, 1.037969, 0.979282], 1e-3),
}


@pytest.fixture
def policy() -> Any:
    yield keras.mixed_precision.set_global_policy
    keras.mixed_precision.set_global_policy(None)


@pytest.mark.parametrize("name", MIXED)
def test_training_in_half_precision_follows_keras(name: str, policy: Any) -> None:
    policy(name)
    model = keras.Sequential(
        [
            keras.Input((6, 4)), layers.Conv1D(8, 3, activation="relu", padding="same"),
            layers.BatchNormalization(), layers.LayerNormalization(),
            layers.LSTM(5, return_sequences=True),
            layers.Bidirectional(layers.GRU(3, return_sequences=True)),
            layers.GroupNormalization(2), layers.Dropout(0.0), layers.Flatten(), layers.Dense(3),
            layers.Activation("softmax", dtype="float32"),
        ]
    )  # fmt: skip
    assert keras.mixed_precision.global_policy().name == name
    half = name.removeprefix("mixed_")
    assert model.layers[0].compute_dtype == half
    assert {str(v.dtype.name) for v in model.weights} == {"float32"}
    model.set_weights(
        [cases.weight(i, v.name, tuple(v.shape)) for i, v in enumerate(model.weights)]
    )
    x, y = wave(16, 6, 4), np.arange(16) % 3
    assert model(x).dtype is tf.float32
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (half == "float16")
    assert not model.run_eagerly
    history = model.fit(x, y, 8, epochs=4, shuffle=False, verbose=0)
    losses, tolerance = MIXED[name]
    np.testing.assert_allclose(history.history["loss"], losses, rtol=tolerance)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "mixed_float16"])
def test_attention_in_half_precision_is_finite_where_nothing_is_seen(name: str) -> None:
    layer = layers.MultiHeadAttention(2, 4, dtype=name)
    x = wave(2, 5, 4)
    mask = np.zeros((2, 5, 5), bool)
    outputs = layer(x, x, attention_mask=mask)
    assert outputs.dtype.name == name.removeprefix("mixed_")
    assert np.isfinite(np.asarray(tf.cast(outputs, tf.float32))).all()


def test_a_policy_is_a_configuration() -> None:
    layer = layers.Dense(2, dtype="mixed_bfloat16")
    again = layers.Dense.from_config(layer.get_config())
    assert again.dtype_policy == keras.DTypePolicy("mixed_bfloat16")
    assert (again.compute_dtype, again.variable_dtype) == ("bfloat16", "float32")
    with pytest.raises(TypeError):
        keras.DTypePolicy(3)


def test_weights_in_lists_and_state_keep_their_places_in_half_precision() -> None:
    class Counting(layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.kernels = [self.add_weight((3, 3), "ones", name=n) for n in "ab"]
            self.count = self.add_weight((), "zeros", trainable=False, autocast=False)

        def call(self, x: Any) -> Any:
            self.count.assign_add(1.0)
            return x @ self.kernels[0] @ self.kernels[1]

    layer = Counting(dtype="mixed_bfloat16")
    outputs = [layer(wave(2, 3)) for _ in range(3)]
    assert outputs[0].dtype is tf.bfloat16
    assert {v.dtype.name for v in layer.weights} == {"float32"}
    assert layer.count.numpy() == 3.0


@pytest.mark.parametrize("first", ["call", "build"])
def test_a_models_own_build_makes_weights_once(first: str) -> None:
    class Shifted(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)

        def build(self, input_shape: Any) -> None:
            self.shift = self.add_weight((2,), "ones", name="shift")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            return self.dense(x) + self.shift

    model = Shifted()
    if first == "call":
        model(wave(1, 3))
    else:
        model.build((None, 3))
    assert sorted(tuple(v.shape) for v in model.weights) == [(2,), (2,), (3, 2)]
    kernel, bias = model.dense.get_weights()
    np.testing.assert_allclose(model(wave(4, 3)), wave(4, 3) @ kernel + bias + 1.0, rtol=1e-5)


# === Random numbers ===

# Functions, and mean and standard deviation of their distributions.
DRAWN = [
    (lambda seed: keras.random.normal((20_000,), 1.0, 2.0, seed=seed), 1.0, 2.0),
    (lambda seed: keras.random.uniform((20_000,), -1.0, 3.0, seed=seed), 1.0, 4.0 / 12**0.5),
    # The variance of a standard normal distribution cut at two is 0.7737.
    (lambda seed: keras.random.truncated_normal((20_000,), seed=seed), 0.0, 0.7737413**0.5),
    (lambda seed: keras.random.gamma((20_000,), 3.0, seed=seed), 3.0, 3.0**0.5),
    (lambda seed: keras.random.beta((20_000,), 2.0, 3.0, seed=seed), 0.4, 0.2),
    (lambda seed: keras.random.binomial((20_000,), 10.0, 0.3, seed=seed), 3.0, 2.1**0.5),
    (lambda seed: keras.random.randint((20_000,), 0, 5, seed=seed), 2.0, 2.0**0.5),
]  # fmt: skip


@pytest.mark.parametrize("row", DRAWN)
def test_random_numbers_have_their_distribution_and_their_seed(row: Any) -> None:
    draw, mean, deviation = row
    numbers = np.asarray(draw(7), np.float64)
    # Five standard errors of the mean, and as many, nearly, of the deviation.
    assert numbers.mean() == pytest.approx(mean, abs=5 * deviation / 20_000**0.5)
    assert numbers.std() == pytest.approx(deviation, rel=0.05)
    np.testing.assert_array_equal(numbers, draw(7))
    assert (numbers != np.asarray(draw(8))).mean() > 0.5
    generator = keras.random.SeedGenerator(7)
    first, second = np.asarray(draw(generator)), np.asarray(draw(generator))
    assert (first != second).mean() > 0.5
    np.testing.assert_array_equal(first, draw(keras.random.SeedGenerator(7)))


def test_chosen_and_shuffled() -> None:
    shares = np.log(np.float32([[0.2, 0.8], [1.0, 1e-9]]))
    drawn = np.asarray(keras.random.categorical(shares, 4000, seed=1))
    assert drawn.mean(axis=1) == pytest.approx([0.8, 0.0], abs=5 * 0.4 / 4000**0.5)
    x = np.arange(12).reshape(3, 4)
    shuffled = np.asarray(keras.random.shuffle(x, axis=1, seed=5))
    assert sorted(shuffled.T.tolist()) == sorted(x.T.tolist())
    dropped = np.asarray(keras.random.dropout(np.ones((4000,), np.float32), 0.25, seed=2))
    assert set(dropped.round(5)) == {0.0, np.float32(1.33333)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=5 * 0.433 / 4000**0.5)


# === Layers that choose at random, or learn from data ===


def test_images_are_flipped_each_by_itself() -> None:
    x = wave(200, 2, 3, 1)
    layer = layers.RandomFlip("horizontal", seed=3)
    first, second = (np.asarray(layer(x, training=True)) for _ in range(2))
    flipped = (first == x[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (first == x).all(axis=(1, 2, 3))
    assert (flipped ^ same).all()
    assert flipped.mean() == pytest.approx(0.5, abs=5 * 0.5 / 200**0.5)
    assert (first != second).any()
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_images_are_cropped_and_changed_within_bounds() -> None:
    x = np.arange(48, dtype=np.float32).reshape(1, 8, 6, 1)
    part = np.asarray(layers.RandomCrop(3, 2, seed=1)(x, training=True))[0, :, :, 0]
    top, left = divmod(int(part[0, 0]), 6)
    np.testing.assert_array_equal(part, x[0, top : top + 3, left : left + 2, 0])
    contrast = layers.RandomContrast(0.5, (-9.0, 9.0), seed=1)
    y = wave(50, 4, 4, 3)
    mean = y.mean(axis=(1, 2), keepdims=True)
    factors = (np.asarray(contrast(y, training=True)) - mean) / (y - mean)
    assert np.ptp(factors.reshape(50, -1), axis=1).max() < 1e-3
    assert 0.5 <= factors.min() < 0.8 < 1.2 < factors.max() <= 1.5 + 1e-4
    inverted = np.asarray(layers.RandomInvert((1.0, 1.0), (0, 1))(np.abs(y), training=True))
    np.testing.assert_allclose(inverted, 1.0 - np.abs(y), atol=1e-6)
    gray = np.asarray(layers.RandomGrayscale(1.0)(y, training=True))
    np.testing.assert_allclose(gray, y @ np.float32([[0.2989], [0.587], [0.114]]) * [1, 1, 1],
                               atol=1e-5)  # fmt: skip
    both = layers.Pipeline([layers.RandomFlip("vertical"), layers.Rescaling(2.0)])
    np.testing.assert_allclose(both(y, training=False), 2.0 * y, rtol=1e-6)


def test_layers_learn_from_data() -> None:
    x = 3.0 * wave(64, 3) + 1.0
    layer = layers.Normalization()
    layer.adapt(tf.data.Dataset.from_tensor_slices(x).batch(10))
    normal = np.asarray(layer(x), np.float64)
    np.testing.assert_allclose(normal.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(normal.std(axis=0), 1.0, atol=1e-4)
    with pytest.raises(ValueError, match="adapt"):
        layers.Normalization()(x)
    bins = layers.Discretization(num_bins=4)
    bins.adapt(x)
    counts = np.bincount(np.asarray(bins(x)).reshape(-1))
    assert counts.tolist() == [48, 48, 48, 48]
    again = layers.Discretization.from_config(bins.get_config())
    np.testing.assert_array_equal(again(x), bins(x))


def test_sparsemax_is_the_nearest_distribution() -> None:
    # By hand: the bound is (1 + 0.8 - 1) / 2 for the first row. Keras 3.15 itself sums the sums
    # of the support and returns zeros.
    found = keras.activations.sparsemax(tf.constant([[1.0, 0.8, -1.0], [3.0, 0.0, 1.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.4, 0.0], [1.0, 0.0, 0.0]], atol=1e-6)
    row = np.asarray(keras.activations.sparsemax(tf.constant(wave(4, 6)), axis=0))
    np.testing.assert_allclose(row.sum(axis=0), 1.0, rtol=1e-5)


def test_an_input_spec_is_held_against_inputs() -> None:
    class Picky(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.input_spec = keras.InputSpec(ndim=2, axes={-1: 3})

    assert Picky()(wave(2, 3)).shape == (2, 3)
    for shape, message in (((2, 3, 3), "ndim=2"), ((2, 4), "extent 3")):
        with pytest.raises(ValueError, match=message):
            Picky()(wave(*shape))


# === Utilities, callbacks, clones ===


def test_windows_of_a_series() -> None:
    make = keras.utils.timeseries_dataset_from_array
    data = np.arange(10)
    found = [np.asarray(batch).tolist() for batch in make(data, None, 3, batch_size=4)]
    assert found == [
        [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]],
        [[4, 5, 6], [5, 6, 7], [6, 7, 8], [7, 8, 9]],
    ]
    pairs = list(make(data, data * 10, 2, sequence_stride=3, sampling_rate=2, batch_size=None,
                      start_index=1))  # fmt: skip
    assert [(x.numpy().tolist(), int(y)) for x, y in pairs] == [
        ([1, 3], 10), ([4, 6], 40), ([7, 9], 70),
    ]  # fmt: skip


def test_moving_averages_evaluate_and_the_weights_go_on() -> None:
    x, y = wave(32, 3), wave(32, 1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5), "mse")
    seen: list[Any] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(self.model.get_weights())

    swap = keras.callbacks.SwapEMAWeights()
    history = model.fit(
        x, y, 8, epochs=2, shuffle=False, verbose=0, validation_data=(x, y),
        callbacks=[Watch(), swap],
    )  # fmt: skip
    averages = seen[0]
    for i, weights in enumerate(seen):
        if i:
            averages = [0.5 * a + 0.5 * w for a, w in zip(averages, weights, strict=True)]
        if i in (3, 7):
            kernel, bias = averages
            loss = float(np.mean((x @ kernel + bias - y) ** 2))
            assert history.history["val_loss"][i // 4] == pytest.approx(loss, rel=1e-4)
    for now, last in zip(model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(now, last)
    with pytest.raises(ValueError, match="use_ema"):
        model.compile("sgd", "mse")
        model.fit(x, y, verbose=0, callbacks=[swap])


def test_clones_call_what_they_are_told() -> None:
    x = keras.Input((2,))
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="deep")])
    model = keras.Model(x, layers.Dense(2, name="top")(inner(x)))
    called: list[str] = []

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(layer.name)
        return layer(*args, **kwargs)

    def wide(layer: Any) -> Any:
        return layers.Dense(2, use_bias=False, name=layer.name)

    copy = keras.models.clone_model(model, call_function=None, clone_function=wide, recursive=True)
    assert [v.path.split("/")[-1] for v in copy.weights] == ["kernel", "kernel"]
    plain = keras.Model(x, layers.Dense(3, name="one")(x))
    again = keras.models.clone_model(plain, call_function=call)
    assert called == ["one"]
    assert again(wave(2, 2)).shape == (2, 3)


def test_variables_trees_and_settings() -> None:
    variable = keras.Variable("ones", (2, 2), name="v")
    assert (variable.name, variable.numpy().sum()) == ("v", 4.0)
    assert keras.Variable([1.0, 2.0], trainable=False).trainable is False
    with pytest.raises(ValueError, match="shape"):
        keras.Variable("zeros")
    doubled = keras.tree.map_structure(lambda n: n * 2, {"a": [1, 2], "b": 3})
    assert doubled == {"a": [2, 4], "b": 6}
    assert keras.utils.get_source_inputs(keras.Input((2,), name="i") * 2.0)[0].name == "i"
    keras.config.set_floatx("float64")
    try:
        assert layers.Dense(1).dtype is tf.float64
        assert keras.ops.zeros(2).dtype is tf.float64
    finally:
        keras.config.set_floatx("float32")
    with pytest.raises(ValueError, match="floatx"):
        keras.config.set_floatx("int32")


def test_keras_ops_build_models() -> None:
    x = keras.Input((4,))
    y = keras.ops.maximum(keras.ops.exp(x), keras.ops.sum(x, axis=1, keepdims=True))
    model = keras.Model(x, keras.ops.concatenate([y, x], axis=-1))
    data = wave(3, 4)
    expected = np.maximum(np.exp(data), data.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(model(data), np.concatenate([expected, data], -1), rtol=1e-5)
    written = keras.Model(x, keras.ops.tanh(keras.ops.add(x, x)))
    again = keras.models.model_from_json(written.to_json())
    np.testing.assert_allclose(again(data), np.tanh(2.0 * data), rtol=1e-5)


# Expressions of keras.backend and the same of NumPy.
BACKEND = [
    ("K.mean(K.square(x - y), axis=-1)", "np.mean((x - y) ** 2, -1)"),
    ("K.sum(x, axis=0, keepdims=True)", "x.sum(0, keepdims=True)"),
    ("K.sqrt(K.maximum(K.sum(K.square(x), axis=1), K.epsilon()))", "np.sqrt((x * x).sum(1))"),
    ("K.clip(x, 0.1, 0.5)", "x.clip(0.1, 0.5)"),
    ("K.argmax(x)", "x.argmax(-1)"),
    ("K.pow(x, 2.0)", "x**2"),
    ("K.batch_flatten(z)", "z.reshape(2, -1)"),
    ("K.permute_dimensions(z, (2, 0, 1))", "z.transpose(2, 0, 1)"),
    ("K.concatenate([x, y])", "np.concatenate([x, y], -1)"),
    ("K.expand_dims(x)", "x[..., None]"),
    ("K.repeat(x, 2)", "np.repeat(x[:, None], 2, 1)"),
    ("K.repeat_elements(x, 2, 1)", "np.repeat(x, 2, 1)"),
    ("K.reverse(x, 1)", "x[:, ::-1]"),
    ("K.gather(x, [2, 0])", "x[[2, 0]]"),
    ("K.dot(x, K.transpose(y))", "x @ y.T"),
    ("K.l2_normalize(x, axis=1)", "x / np.linalg.norm(x, axis=1, keepdims=True)"),
    ("K.relu(x, alpha=0.1, max_value=0.5)", "np.where(x > 0, x.clip(None, 0.5), 0.1 * x)"),
    ("K.switch(x > 0, x, y)", "np.where(x > 0, x, y)"),
    ("K.cumsum(x)", "x.cumsum(0)"),
    ("K.max(x, axis=1)", "x.max(1)"),
    ("K.one_hot([0, 2], 3)", "np.eye(3)[[0, 2]]"),
    ("K.cast_to_floatx(np.float64(x))", "x"),
    ("K.shape(x)", "x.shape"),
    ("K.update_add(K.variable(x), y)", "x + y"),
    ("K.moving_average_update(K.variable(x), y, 0.9)", "0.9 * x + 0.1 * y"),
    ("K.binary_crossentropy(K.cast(x > 0, 'float32'), K.sigmoid(y))",
     "np.where(x > 0, np.log1p(np.exp(-y)), np.log1p(np.exp(y)))"),
]  # fmt: skip


@pytest.mark.parametrize("row", BACKEND, ids=lambda row: row[0][:30])
def test_the_backends_functions_are_numpys(row: Any) -> None:
    ours, theirs = row
    arrays = {"x": wave(3, 4), "y": wave(3, 4, start=0.5), "z": wave(2, 3, 4), "np": np}
    tensors = {k: tf.constant(v) for k, v in arrays.items() if k != "np"}
    if "np." in ours:
        tensors = arrays
    found = eval(ours, {"K": keras.backend, **tensors, "np": np})
    np.testing.assert_allclose(np.asarray(found), eval(theirs, arrays), rtol=1e-5, atol=1e-6)
