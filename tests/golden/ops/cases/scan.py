"""Running sums, products and recurrences."""

import itertools

import jax
import jax.numpy as jnp
import tensorflow as tf
from make import array, case, integers, uniform

INF = float("inf")


def recurrence(coefficient, x, axis=0, reverse=False):
    """y_i = x_i + coefficient_i y_(i-1), by a loop."""

    def step(last, pair):
        y = pair[0] * last + pair[1]
        return y, y

    a, b = jnp.moveaxis(jnp.asarray(coefficient), axis, 0), jnp.moveaxis(jnp.asarray(x), axis, 0)
    return jnp.moveaxis(jax.lax.scan(step, jnp.zeros_like(b[0]), (a, b), reverse=reverse)[1], 0, axis)


def both_ways(op, oracle):
    """Every combination of flags."""
    return [
        case(
            op,
            [uniform([3, 4])],
            lambda x, flags=flags: oracle(x, 1, *flags),
            axis=-1,
            exclusive=flags[0],
            reverse=flags[1],
        )
        for flags in itertools.product((False, True), repeat=2)
    ] + [case(op, [array([[], []])], lambda x: oracle(x, 1), axis=1)]


CASES = [
    case("cumsum", [uniform([2, 3])], lambda x: tf.cumsum(x, 1, reverse=True), axis=1, reverse=True),
    *both_ways("cumsum", tf.cumsum),
    case("cumsum", [integers([5], -9, 9)], tf.cumsum),
    *both_ways("cumprod", tf.math.cumprod),
    case("cumprod", [integers([5], -9, 9)], tf.math.cumprod),
    # TensorFlow divides by the elements and gives 0 at zeros.
    case("cumprod", [array([0.0, 2.0, 3.0])], jnp.cumprod, by="jax"),
    case("cumprod", [array([2.0, 0.0, 3.0, 0.0, 5.0])], jnp.cumprod, by="jax"),
    *both_ways("cumulative_logsumexp", tf.math.cumulative_logsumexp)[::2],
    # TensorFlow's gradient at minus infinity is NaN; ours is 0, as that of reduce_logsumexp.
    case("cumulative_logsumexp", [array([-INF, 1.0, 1000.0, -1000.0])], tf.math.cumulative_logsumexp, gradients=False),
    # TensorFlow begins with the lowest number.
    case("cumulative_logsumexp", [uniform([4])], lambda x: jnp.concatenate([jnp.array([-jnp.inf], x.dtype), jax.lax.cumlogsumexp(x)[:-1]]), by="jax", exclusive=True),
    case("cumulative_logsumexp", [uniform([4])], lambda x: jnp.concatenate([jax.lax.cumlogsumexp(x, reverse=True)[1:], jnp.array([-jnp.inf], x.dtype)]), by="jax", exclusive=True, reverse=True),
    case("linear_recurrence", [uniform([4, 2]), uniform([4, 2])], recurrence, by="jax"),
    case("linear_recurrence", [uniform([2, 4], dtype="float64"), uniform([2, 4], dtype="float64")], lambda a, x: recurrence(a, x, 1, True), by="jax", axis=1, reverse=True),
]
