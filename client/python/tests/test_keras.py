"""Keras in parts, against numbers of Keras 3.15 on the same weights and data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradtape as tf

optimizers = tf.keras.optimizers


def digits() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Inputs, classes and first weights; RandomState gives the same numbers in every NumPy."""
    random = np.random.RandomState(1)
    inputs = random.normal(size=(64, 5)).astype(np.float32)
    weights = [random.normal(size=s).astype(np.float32) * 0.3 for s in ((5, 8), (8,), (8, 3), (3,))]
    return inputs, random.randint(0, 3, 64), weights


def train(optimizer: Any, steps: int = 30) -> tuple[float, tf.keras.Model]:
    inputs, classes, weights = digits()
    model = tf.keras.Sequential(
        [
            tf.keras.Input((5,)),
            tf.keras.layers.Dense(8, activation="tanh"),
            tf.keras.layers.Dense(3),
        ]
    )
    model.set_weights(weights)
    loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for step in range(steps):
        if step == 20:
            optimizer.learning_rate = 0.003
        with tf.GradientTape() as tape:
            loss = loss_fn(tf.constant(classes), model(inputs, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return float(loss), model


# Last loss, sum of each variable, and iterations.
KERAS: list[tuple[Callable[[], Any], float, list[float], int]] = [
    (
        lambda: optimizers.SGD(0.1),
        1.071614,
        [-1.884964, -0.923536, 0.459249, -0.305895],
        30,
    ),
    (
        lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        1.003332,
        [-2.354541, -0.281081, 0.450016, -0.299744],
        30,
    ),
    (
        lambda: optimizers.Adam(0.01, clipnorm=0.1),
        1.004103,
        [-1.719271, -1.276318, -0.273397, -0.151969],
        30,
    ),
    (
        lambda: optimizers.Adam(0.01, amsgrad=True, global_clipnorm=0.5),
        1.007735,
        [-1.671229, -1.297273, -0.260815, -0.151025],
        30,
    ),
    (
        lambda: optimizers.Adagrad(0.05, clipvalue=0.01),
        1.2116,
        [-1.830068, -0.957479, 0.338262, -0.273499],
        30,
    ),
    (
        lambda: optimizers.Adam(0.01, gradient_accumulation_steps=3),
        1.130885,
        [-1.729948, -1.040572, 0.17, -0.236281],
        10,
    ),
]


@pytest.mark.parametrize(("make", "loss", "sums", "iterations"), KERAS)
def test_training_gives_keras_numbers(
    make: Callable[[], Any], loss: float, sums: list[float], iterations: int
) -> None:
    optimizer = make()
    found, model = train(optimizer)
    assert found == pytest.approx(loss, rel=1e-5)
    assert [float(v.numpy().sum()) for v in model.trainable_variables] == pytest.approx(
        sums, abs=1e-5
    )
    assert optimizer.iterations == iterations


class Blocks(tf.keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.hidden_layers = [tf.keras.layers.Dense(4), tf.keras.layers.Dense(3)]
        self.tail = tf.keras.Sequential([tf.keras.layers.Dense(2), tf.keras.layers.Dense(1)])
        self.attention = tf.keras.layers.Dense(5)

    def call(self, inputs: Any) -> Any:
        for layer in self.hidden_layers:
            inputs = layer(inputs)
        return self.tail(inputs) + tf.reduce_sum(self.attention(inputs))


def shapes(variables: list[tf.Variable]) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in variables]


def test_variables_come_in_the_order_of_the_layers_kernel_before_bias() -> None:
    model = Blocks()
    assert model.trainable_variables == []
    model(np.ones((2, 6)))
    assert shapes(model.trainable_variables) == [
        (6, 4), (4,), (4, 3), (3,), (3, 2), (2,), (2, 1), (1,), (3, 5), (5,),
    ]  # fmt: skip
    assert [layer is found for layer, found in zip(
        [*model.hidden_layers, model.tail, model.attention], model.layers, strict=True
    )] == [True] * 4  # fmt: skip


def test_frozen_layers_are_left_out_wherever_they_are() -> None:
    model = Blocks()
    model(np.ones((2, 6)))
    model.tail.layers[0].trainable = False
    model.hidden_layers[1].trainable = False
    assert shapes(model.trainable_variables) == [(6, 4), (4,), (2, 1), (1,), (3, 5), (5,)]
    assert shapes(model.non_trainable_variables) == [(4, 3), (3,), (3, 2), (2,)]
    assert len(model.variables) == 10
    model.trainable = False
    assert model.trainable_variables == []
    model.trainable = True
    assert len(model.trainable_variables) == 10


def test_training_reaches_inner_layers() -> None:
    dropout = tf.keras.layers.Dropout(0.5)
    model = tf.keras.Sequential([tf.keras.Sequential([dropout]), lambda x: x * 2.0])
    ones = np.ones((10, 100), np.float32)
    assert (model(ones).numpy() == 2.0).all()
    assert set(np.unique(model(ones, training=True).numpy())) == {0.0, 4.0}


def test_a_module_orders_variables_by_name_own_ones_first() -> None:
    class Outer(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b = tf.Variable(1.0, name="b")
            self.a = Inner()
            self.c = {"k": [tf.Variable(2.0, name="c")]}

    class Inner(tf.Module):
        def __init__(self) -> None:
            super().__init__(name="in_ner")
            self.z = tf.Variable(3.0, name="z")
            self.frozen = tf.Variable(4.0, trainable=False, name="frozen")

    module = Outer()
    assert [v.name for v in module.variables] == ["b:0", "c:0", "frozen:0", "z:0"]
    assert [v.name for v in module.trainable_variables] == ["b:0", "c:0", "z:0"]
    assert (module.name, [m.name for m in module.submodules]) == ("outer", ["in_ner"])


def test_mistakes_are_told() -> None:
    class Forgetful(tf.keras.Model):
        def __init__(self) -> None:
            pass

    class Reserved(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layers = []

    with pytest.raises(RuntimeError, match="super"):
        Forgetful()(np.ones((1, 1)))
    with pytest.raises(AttributeError, match="reserved"):
        Reserved()
    with pytest.raises(ValueError, match="activation"):
        tf.keras.layers.Dense(1, activation="no such thing")
    with pytest.raises(ValueError, match="float"):
        optimizers.SGD(1)
    with pytest.raises(ValueError, match="No gradients"):
        optimizers.SGD().apply_gradients([(None, tf.Variable(1.0))])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        x, y = tf.Variable(1.0), tf.Variable(1.0)
        optimizers.SGD(1.0).apply_gradients([(None, x), (tf.constant(0.5), y)])
    assert y.numpy() == 0.5


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize(
    ("name", "stddev"),
    [
        # sqrt(scale / fan) with fan_in 60, fan_out 90, as Keras documents each.
        ("GlorotNormal", (1 / 75) ** 0.5),
        ("HeNormal", (2 / 60) ** 0.5),
        ("LecunNormal", (1 / 60) ** 0.5),
        ("VarianceScaling", (1 / 60) ** 0.5),
        ("TruncatedNormal", 0.05 * 0.87962566103423978),
        ("GlorotUniform", (1 / 75) ** 0.5),
        ("HeUniform", (2 / 60) ** 0.5),
        ("LecunUniform", (1 / 60) ** 0.5),
    ],
)
def test_initializers_have_the_variance_of_keras(
    name: str, stddev: float, seed: int | None
) -> None:
    initializer = getattr(tf.keras.initializers, name)(seed=seed)
    values = initializer((60, 90)).numpy()
    assert values.shape == (60, 90)
    assert values.dtype == np.float32
    # The standard error of a standard deviation from 5400 numbers is about 1 %.
    assert abs(values.std() / stddev - 1) < 0.05
    assert abs(values.mean()) < 0.1 * stddev
    bound = 2.0 / 0.87962566103423978 if "Uniform" not in name else 3**0.5
    assert np.abs(values).max() <= bound * stddev * 1.0001
    assert np.array_equal(values, initializer((60, 90)).numpy()) is (seed is not None)
