"""TensorFlow's functions by its signatures: expressions with the values of TensorFlow 2.21."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

import gradtape as tf
from gradtape import _export, _ops

CASES = json.loads((Path(__file__).parent / "namespaces.json").read_text())
X = np.array([[0.3, -1.2, 0.7], [1.5, 0.25, -0.4]], np.float32)
Y = np.array([[-0.6, 0.9, 1.1], [0.2, -1.4, 2.0]], np.float32)


@pytest.mark.parametrize("expression", CASES)
def test_values_and_gradients_are_tensorflows(expression: str) -> None:
    expected = CASES[expression]
    x, y = tf.Variable(X), tf.Variable(Y)
    image = tf.Variable(np.sin(np.arange(50, dtype=np.float32)).reshape(1, 5, 5, 2))
    names = {
        "np": np,
        "tf": tf,
        "x": x,
        "y": y,
        "z": tf.constant(np.arange(12, dtype=np.float32).reshape(2, 3, 2)),
        "img": image,
    }
    with tf.GradientTape() as tape:
        result = eval(expression, names)
    assert (result.dtype.name, list(result.shape)) == (expected["dtype"], expected["shape"])
    assert_close(result.numpy(), expected["value"])
    if not result.dtype.is_floating:
        return
    gradients = tape.gradient(result, [x, y, image])
    assert [g is None for g in gradients] == [g is None for g in expected["gradients"]]
    for gradient, numbers in zip(gradients, expected["gradients"], strict=True):
        if gradient is not None:
            assert_close(tf.convert_to_tensor(gradient).numpy(), numbers)


def assert_close(found: np.ndarray, expected: list[float | None]) -> None:
    numbers = np.array([np.nan if number is None else number for number in expected])
    np.testing.assert_allclose(found.reshape(-1), numbers, rtol=2e-5, atol=2e-6)


def test_every_op_of_the_table_has_a_public_name() -> None:
    for family, names in _ops.FAMILIES.items():
        if family != "random":
            module = getattr(tf, family, tf)
            assert {name for name in names if not hasattr(module, name)} <= _export._INTERNAL


def test_an_op_that_is_exported_by_itself_takes_attributes_by_position_and_a_name() -> None:
    x = tf.constant([1.0, 2.0, 3.0])
    assert tf.cumsum(x, 0, True).numpy().tolist() == [0.0, 1.0, 3.0]
    assert tf.cumsum(x, 0, True, False, "sums").numpy().tolist() == [0.0, 1.0, 3.0]
    assert tf.cumsum(x, reverse=True, name="sums").numpy().tolist() == [6.0, 5.0, 3.0]
    assert list(inspect.signature(tf.cumsum).parameters) == [
        "x",
        "axis",
        "exclusive",
        "reverse",
        "name",
    ]
    with pytest.raises(TypeError):
        tf.cumsum(x, 0, True, False, "sums", 1)
    with pytest.raises(TypeError):
        tf.cumsum(x, 0, axis=0)


def test_random_numbers_follow_their_seeds() -> None:
    tf.random.set_seed(7)
    first, second = tf.random.normal([4]).numpy(), tf.random.normal([4]).numpy()
    assert (first != second).all()
    tf.random.set_seed(7)
    assert (tf.random.normal([4]).numpy() == first).all()
    generator = tf.random.Generator.from_seed(7)
    again = tf.random.Generator.from_seed(7)
    drawn = generator.uniform([4]).numpy()
    assert (drawn == again.uniform([4]).numpy()).all()
    assert (drawn != generator.uniform([4]).numpy()).all()


def test_stateless_numbers_of_neighbouring_seeds_do_not_overlap() -> None:
    one = tf.random.stateless_uniform([100], (1, 2)).numpy()
    assert (one == tf.random.stateless_uniform([100], (1, 2)).numpy()).all()
    assert not np.intersect1d(one, tf.random.stateless_uniform([100], (1, 3)).numpy()).size


def test_uniform_integers_cover_their_range() -> None:
    drawn = tf.random.uniform([2_000], -2, 3, tf.int32)
    assert drawn.dtype is tf.int32
    counts = np.unique(drawn.numpy(), return_counts=True)
    assert counts[0].tolist() == [-2, -1, 0, 1, 2]
    assert (counts[1] > 300).all()  # 400 each are expected, with a standard deviation of 18.
    with pytest.raises(ValueError, match="maxval"):
        tf.random.uniform([2], dtype=tf.int64)
