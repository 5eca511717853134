"""Custom gradients, recomputed functions and explanations, as TensorFlow has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradtape as tf
from gradtape import experimental


@tf.custom_gradient
def log1pexp(x: Any) -> Any:
    e = tf.exp(x)
    return tf.math.log(1 + e), lambda upstream: upstream * (1 - 1 / (1 + e))


def test_the_documentation_s_example() -> None:
    x = tf.constant(100.0)
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = log1pexp(x)
        assert tape.gradient(y, x).numpy() == 1.0


def test_nested_custom_gradients_of_the_documentation() -> None:
    # First and second order of x**3, each given by hand, and with a factor that shows.
    @tf.custom_gradient
    def op(x: Any) -> Any:
        @tf.custom_gradient
        def first_order(x: Any) -> Any:
            return 3.0 * x**2, lambda ddy: ddy * 60.0 * x

        return x**3, lambda dy: dy * first_order(x)

    x = tf.constant(2.0)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = op(x)
        first = inner.gradient(y, x)
    assert (y.numpy(), first.numpy()) == (8.0, 12.0)
    assert outer.gradient(first, x).numpy() == 120.0


def test_variables_and_structures() -> None:
    w = tf.Variable(3.0)

    @tf.custom_gradient
    def scale(pair: Any, shift: Any) -> Any:
        a, b = pair

        def backward(da: Any, db: Any, variables: Any = None) -> Any:
            assert [v is w for v in variables] == [True]
            return (10.0 * da, 20.0 * db, None), [da + db]

        return {"a": a * w, "b": b * w + shift}, backward

    a, b, c = (tf.constant(x) for x in (1.0, 2.0, 4.0))
    with tf.GradientTape() as tape:
        tape.watch([a, b, c])
        found = scale((a, b), c)
        loss = found["a"] + 2.0 * found["b"]
    assert loss.numpy() == 23.0
    gradients = tape.gradient(loss, [a, b, c, w])
    assert [None if g is None else float(g) for g in gradients] == [10.0, 40.0, None, 3.0]


def test_mistakes() -> None:
    w = tf.Variable(3.0)
    x = tf.constant(1.0)
    with pytest.raises(TypeError, match="must accept keyword argument 'variables'"):
        tf.custom_gradient(lambda x: (x * w, lambda dy: dy))(x)
    with pytest.raises(ValueError, match="expected to return 1 gradients, but returned 2"):
        tf.custom_gradient(lambda x: (x * 2, lambda dy: (dy, dy)))(x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="float32\\[2\\], not float32\\[\\]"):
        tf.custom_gradient(lambda x: (x * 2, lambda dy: dy * [1.0, 2.0]))(x)
        tf.synchronize()
    with pytest.raises(tf.errors.InvalidArgumentError, match="placeholder, which has no elements"):
        tf.custom_gradient(lambda x: (x * 2, lambda dy: dy if dy > 0 else -dy))(x)
    tf.clear_errors()


def test_forward_accumulation() -> None:
    x = tf.constant([1.0, 2.0])
    with tf.autodiff.ForwardAccumulator(x, tf.constant([3.0, 5.0])) as accumulator:
        y = log1pexp(x)
    slope = 1 / (1 + np.exp([-1.0, -2.0]))
    np.testing.assert_allclose(accumulator.jvp(y).numpy(), slope * [3.0, 5.0], rtol=1e-6)


def test_recomputed_functions_give_the_same_gradients() -> None:
    tf.random.set_seed(3)
    dense = tf.keras.layers.Dense(3, activation="tanh")
    dense.build((None, 4))
    x = tf.random.normal((5, 4), seed=1)

    def block(x: Any, twice: bool = False) -> Any:
        y = tf.nn.dropout(dense(x), 0.5, seed=7)
        return {"y": y * 2.0 if twice else y, "n": tf.argmax(y, 1)}

    found = []
    for f in (block, tf.recompute_grad(block)):
        tf.random.set_seed(5)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(f(x, twice=True)["y"] ** 2)
        found.append([loss.numpy(), *(g.numpy() for g in tape.gradient(loss, [x, *dense.weights]))])
    for kept, again in zip(*found, strict=True):
        np.testing.assert_array_equal(kept, again)


def test_recomputing_uses_the_variables_of_the_first_time() -> None:
    w, x = tf.Variable(3.0), tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.recompute_grad(lambda x: (x * w) ** 2)(x)
        w.assign(10.0)
    assert [float(g) for g in tape.gradient(y, [x, w])] == [36.0, 24.0]


def test_grad_pass_through() -> None:
    x, w = tf.Variable([1.3, 2.7]), tf.Variable([2.0, 2.0])
    with tf.GradientTape() as tape:
        y = tf.grad_pass_through(lambda x: tf.round(x) * w)(x) * 5.0
    np.testing.assert_array_equal(y.numpy(), [10.0, 30.0])
    of_x, of_w = tape.gradient(y, [x, w])
    np.testing.assert_array_equal(of_x.numpy(), [5.0, 5.0])
    assert of_w is None


def test_ready_made() -> None:
    x = tf.Variable([0.4, 1.6])
    cases = [
        (lambda: experimental.straight_through(x, tf.round(x)), [0.0, 2.0], [3.0, 4.0]),
        (lambda: experimental.scale_gradient(x, 0.5), [0.4, 1.6], [1.5, 2.0]),
        (lambda: experimental.reverse_gradient(x), [0.4, 1.6], [-3.0, -4.0]),
        (lambda: experimental.clip_gradient(x, high=3.5), [0.4, 1.6], [3.0, 3.5]),
        (lambda: experimental.clip_gradient(x, low=3.25, high=9.0), [0.4, 1.6], [3.25, 4.0]),
        (lambda: experimental.clip_gradient(x, norm=0.5), [0.4, 1.6], [0.3, 0.4]),
        (lambda: experimental.clip_gradient(x, norm=10.0), [0.4, 1.6], [3.0, 4.0]),
    ]
    for make, value, gradient in cases:
        with tf.GradientTape() as tape:
            y = make()
            loss = tf.reduce_sum(y * [3.0, 4.0])
        np.testing.assert_allclose(y.numpy(), value, rtol=1e-6)
        np.testing.assert_allclose(tape.gradient(loss, x).numpy(), gradient, rtol=1e-6)


def test_explanations() -> None:
    x, z = tf.constant(2.0), tf.constant(1.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = tf.exp(x * x)
        broken = tf.floor(y) * 2.0
    found = tape.explain(y, x)
    assert found.connected
    assert [hop.op for hop in found.path] == ["multiply", "exp"]
    assert found.path[0].place.startswith("test_custom_gradient.py:")
    assert str(found).startswith("There is a gradient.")
    found = tape.explain(broken, x)
    assert (found.reason, found.path[-1].op) == ("no_derivative", "floor")
    assert "floor -> float32[]" in str(found)
    assert tape.explain(y, z).reason == "not_watched"
    assert "tape.watch" in str(tape.explain(y, z))


def test_a_tape_within_a_custom_gradient() -> None:
    v = tf.Variable(3.0)

    @tf.custom_gradient
    def slope(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x * x * v
        found = tape.gradient(y, x)
        return found, lambda dy, variables: (dy * 10.0, [dy * 20.0])

    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = slope(x)
    assert float(y) == 12.0
    assert [float(g) for g in tape.gradient(y, [x, v])] == [10.0, 20.0]
