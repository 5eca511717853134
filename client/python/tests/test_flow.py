"""Control flow that the server chooses, in functions, against what the same code does eagerly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradtape as tf


def both(function: Callable[..., Any], *arguments: Any) -> None:
    """Calls a function as it is and traced; results must have the same bits."""
    expected = function(*arguments)
    traced = tf.function(function)
    for _ in range(2):
        for result, value in zip(traced(*arguments), expected, strict=True):
            np.testing.assert_array_equal(result.numpy(), value.numpy())


@pytest.mark.parametrize("x", [3.0, 1.5])
def test_cond_and_its_gradient(x: float) -> None:
    w = tf.Variable(2.0)

    def step(a: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(a)
            with tf.GradientTape() as tape:
                tape.watch(a)
                y = tf.cond(a > 2.0, lambda: a * a * w, lambda: a * w)
            slope = tape.gradient(y, a)
        return y, slope, outer.gradient(slope, a) if x > 2 else slope

    both(step, tf.constant(x))


def test_a_branch_that_is_not_taken_gives_zeros() -> None:
    w, v = tf.Variable(2.0), tf.Variable(5.0)

    @tf.function
    def step(a: Any) -> Any:
        with tf.GradientTape() as tape:
            y = tf.cond(a > 0.0, lambda: a * w, lambda: a * v)
        return tape.gradient(y, [w, v])

    assert [g.numpy() for g in step(tf.constant(3.0))] == [3.0, 0.0]
    assert [g.numpy() for g in step(tf.constant(-3.0))] == [0.0, -3.0]


def test_branches_assign() -> None:
    w = tf.Variable(1.0)

    @tf.function
    def step(a: Any) -> Any:
        tf.cond(a > 0.0, lambda: w.assign_add(a), lambda: w.assign_sub(1.0))
        return w + 0.0

    assert step(tf.constant(4.0)).numpy() == 5.0
    assert step(tf.constant(-4.0)).numpy() == 4.0
    assert w.numpy() == 4.0


@pytest.mark.parametrize("i", [0, 1, 2, 9, -1])
def test_switch_case_and_case(i: int) -> None:
    w = tf.Variable(3.0)

    def step(n: Any) -> Any:
        x = tf.cast(n, tf.float32)
        inner = lambda: tf.cond(n > 5, lambda: w * x, lambda: w - x)  # noqa: E731
        switched = tf.switch_case(n, [lambda: tf.constant(1.0), lambda: w * 10.0, inner])
        chosen = tf.case([(n < 0, lambda: -w), (n < 2, lambda: w)], default=lambda: w * 2.0)
        return switched, chosen

    both(step, tf.constant(i))


def test_while_loop_and_its_gradient() -> None:
    w = tf.Variable(1.5)

    def step(a: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(a)
            count, y = tf.while_loop(
                lambda i, y: y < 100.0,
                lambda i, y: (i + 1, y * a * w),
                (tf.constant(0), a),
                maximum_iterations=40,
            )
        return count, y, *tape.gradient(y, [a, w])

    both(step, tf.constant(2.0))


def test_a_loop_without_a_limit_has_no_gradient() -> None:
    @tf.function
    def step(a: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(a)
            (y,) = tf.while_loop(lambda y: y < 100.0, lambda y: (y * 2.0,), (a,))
        return tape.gradient(y, a)

    with pytest.raises(tf.errors.InvalidArgumentError, match="maximum_iterations"):
        step(tf.constant(2.0))


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_and_its_gradient(reverse: bool) -> None:
    w = tf.Variable(0.9)
    xs = tf.constant(np.linspace(-1.0, 1.0, 100, dtype=np.float32))

    def step(start: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([start, xs])
            hs = tf.scan(lambda h, x: tf.tanh(h * w + x), xs, initializer=start, reverse=reverse)
        return hs, *tape.gradient(hs, [start, xs])

    both(step, tf.constant(0.3))


def test_maps_and_folds() -> None:
    rows = tf.constant(np.arange(300, dtype=np.float32).reshape(100, 3) / 100.0)

    def step(xs: Any) -> Any:
        mapped = tf.map_fn(lambda row: tf.reduce_sum(row * row), xs)
        left = tf.foldl(lambda a, row: a * 0.5 + row, xs, initializer=tf.zeros(3))
        right = tf.foldr(lambda a, row: a * 0.5 + row, xs, initializer=tf.zeros(3))
        return mapped, left, right

    both(step, rows)


def test_what_does_not_fit_is_said() -> None:
    def unequal(a: Any) -> Any:
        return tf.cond(a > 0.0, lambda: a, lambda: tf.stack([a, a]))

    def growing(a: Any) -> Any:
        return tf.while_loop(lambda x: tf.reduce_sum(x) < a, lambda x: (tf.concat([x, x], 0),), (x,))

    x = tf.ones(2)
    with pytest.raises(TypeError, match="must return the same"):
        tf.function(unequal)(tf.constant(1.0))
    with pytest.raises(ValueError, match="keep their dtypes and shapes"):
        tf.function(growing)(tf.constant(1.0))
    assert tf.function(lambda a: a + 1.0)(tf.constant(1.0)).numpy() == 2.0
