"""The tutorial's four programs, with nothing changed but the import."""

from __future__ import annotations

import numpy as np
import pytest

import gradtape as tf

# What TensorFlow computes on a CPU, bit for bit.
W, B = 2.0080034732818604, -0.9919993877410889


def test_persistent_tape() -> None:
    x = tf.constant(2.0)
    y = tf.constant(3.0)
    with tf.GradientTape(persistent=True) as g:
        g.watch(x)
        g.watch(y)
        z = x * y
    dz_dx = g.gradient(z, x)
    dz_dy = g.gradient(z, y)
    assert dz_dx.numpy() == 3.0
    assert dz_dy.numpy() == 2.0


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(np.arange(10), id="int64"),
        pytest.param(np.arange(10, dtype=np.float32), id="float32"),
        pytest.param(np.arange(10.0), id="float64"),
    ],
)
def test_thousand_steps(x: np.ndarray) -> None:
    y = 2 * x - 1
    w = tf.Variable(0.1, name="w", trainable=True, dtype=tf.float32)
    b = tf.Variable(0.1, name="b", trainable=True, dtype=tf.float32)
    epochs = 1000
    learning_rate = 0.001
    for _ in range(epochs):
        with tf.GradientTape(persistent=True) as g:
            y_ = w * x + b
            loss = tf.abs(y - y_)
        dw, db = g.gradient(loss, w), g.gradient(loss, b)
        w.assign_sub(learning_rate * dw)
        b.assign_sub(learning_rate * db)
        del g
    assert float(w.numpy()) == W
    assert float(b.numpy()) == B


def test_train_step() -> None:
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Dense(8, activation="relu", input_shape=(3,)),
            tf.keras.layers.Dense(1),
        ]
    )
    optimizer = tf.keras.optimizers.SGD(learning_rate=0.05)
    inputs = np.linspace(-1.0, 1.0, 48, dtype=np.float32).reshape(16, 3)
    wanted = inputs @ np.array([[1.0], [-2.0], [0.5]], np.float32)

    def train_step(model, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.square(model(x) - y)
        grads = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(grads, model.trainable_variables))  # noqa: B905
        return loss.numpy().mean()

    losses = [train_step(model, (inputs, wanted / 16)) for _ in range(30)]
    assert len(model.trainable_variables) == 4
    assert losses[-1] < losses[0]


def test_train_step_of_a_linear_model_is_gradient_descent() -> None:
    """One step by hand: from 0, with x = [1, 2] and y = 3, d(y - xw)^2/dw = -2 x y = [-6, -12]."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, kernel_initializer="zeros")])
    optimizer = tf.keras.optimizers.SGD(learning_rate=0.5)
    x, y = np.array([[1.0, 2.0]], np.float32), np.array([[3.0]], np.float32)
    with tf.GradientTape() as tape:
        loss = tf.square(y - model(x))
    grads = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
    kernel, bias = model.trainable_variables
    assert loss.numpy().mean() == 9.0
    assert kernel.numpy().tolist() == [[3.0], [6.0]]
    assert bias.numpy().tolist() == [3.0]


def test_nested_tapes() -> None:
    x = tf.Variable(2.0)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            y = x ** 3  # fmt: skip
        first = inner.gradient(y, x)
    second = outer.gradient(first, x)
    assert first.numpy() == 12.0
    assert second.numpy() == 12.0


def test_second_gradient_of_a_one_shot_tape() -> None:
    x = tf.constant(3.0)
    with tf.GradientTape() as g:
        g.watch(x)
        y = x * x
        z = y * y
    assert g.gradient(z, x).numpy() == 108.0
    with pytest.raises(RuntimeError, match="non-persistent GradientTape can only be used"):
        g.gradient(y, x)
