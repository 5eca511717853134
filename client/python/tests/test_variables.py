"""Parts of variables: what TensorFlow's assignments and scatters leave in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gradtape as tf

CASES = json.loads((Path(__file__).parent / "variables.json").read_text())


@pytest.mark.parametrize("expression", CASES)
def test_what_is_left_is_tensorflows(expression: str) -> None:
    v = tf.Variable(np.arange(1, 13, dtype=np.float32).reshape(4, 3))
    eval(expression, {"tf": tf, "v": v})
    np.testing.assert_allclose(v.numpy(), CASES[expression], rtol=1e-6)


def test_a_slice_of_a_tensor_cannot_be_assigned_to() -> None:
    assert not hasattr(tf.ones([3])[:2], "assign")
    v = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(v[1:] * 3.0)
    assert tape.gradient(y, v).numpy().tolist() == [0.0, 3.0]


def test_a_moving_average_moves_as_its_formula_says() -> None:
    v, count = tf.Variable(10.0), tf.Variable(0)
    average = tf.train.ExponentialMovingAverage(0.9, num_updates=count)
    average.apply([v])
    wanted = 10.0
    for step in range(1, 5):
        v.assign(float(step))
        count.assign(step)
        average.apply([v])
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    found = average.average(v)
    assert found is not None
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    assert average.average(count) is None
    assert list(average.variables_to_restore()) == ["Variable/ExponentialMovingAverage"]
    with pytest.raises(TypeError, match="float"):
        average.apply([count])


def test_the_gradients_of_a_convolution_by_name_are_the_tapes() -> None:
    x = tf.Variable(np.sin(np.arange(72, dtype=np.float32)).reshape(1, 6, 6, 2))
    w = tf.Variable(np.cos(np.arange(24, dtype=np.float32)).reshape(2, 2, 2, 3))
    for strides, padding in (([1, 1, 1, 1], "VALID"), ([1, 2, 2, 1], "SAME")):
        with tf.GradientTape() as tape:
            y = tf.nn.conv2d(x, w, strides, padding)
        seed = tf.ones_like(y) * 0.5
        dx, dw = tape.gradient(y, [x, w], output_gradients=seed)
        found = tf.conv2d_backprop_input_v2(x, w, seed, strides, padding)
        np.testing.assert_array_equal(found.numpy(), dx.numpy())
        found = tf.conv2d_backprop_filter_v2(x, w, seed, strides, padding)
        np.testing.assert_array_equal(found.numpy(), dw.numpy())
