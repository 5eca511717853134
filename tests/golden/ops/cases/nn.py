"""Activations."""

import keras
import numpy as np
import tensorflow as tf
from make import array, booleans, case, gradient_of, uniform

# Where activations bend, saturate or overflow.
FINITE = [-200.0, -6.0, -3.0, -1.0, -0.0, 0.0, 1.0, 3.0, 6.0, 200.0]
INFINITE = [-np.inf, *FINITE, np.inf]
# TensorFlow rounds the constants in some formulas to float32, whatever the dtype.
ROUNDED = 1e-7


def activation(name, oracle, edges=FINITE, wide_tolerance=None, **attributes):
    return [
        case(name, [uniform([3, 4], -4.0, 4.0)], oracle, **attributes),
        case(name, [array(edges)], oracle, **attributes),
        case(name, [uniform([5], dtype="float64")], oracle, tolerance=wide_tolerance, **attributes),
        case(name, [uniform([0, 3])], oracle, **attributes),
    ]


def attention(query, key, value, mask, scale=None, causal=False):
    """By formulas: JAX' attention has other axes, and hides by a number that is not ours."""
    scores = tf.einsum("...qd,...kd->...qk", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        scores += tf.where(tf.linalg.band_part(tf.ones(scores.shape[-2:], bool), -1, 0), 0.0, -1e30)
    scores = tf.where(mask, scores, -1e30) if mask.dtype == tf.bool else scores + mask
    return tf.matmul(tf.nn.softmax(scores), value)


def turned(x):
    return tf.einsum("btnh->bnth", x)


def places_first(query, key, value, mask):
    return turned(attention(turned(query), turned(key), turned(value), mask, causal=True))


def heads():
    return [uniform([2, 2, *extents]) for extents in ([3, 4], [5, 4], [5, 3])]


def behind_places():
    return [uniform(extents) for extents in ([2, 3, 2, 4], [2, 5, 2, 4], [2, 5, 2, 3])]


ATTENTION = "scaled_dot_product_attention"

CASES = [
    # The gradient at NaN is left out: TensorFlow gives 0 and we NaN.
    *activation("relu", tf.nn.relu, INFINITE),
    *activation("relu6", tf.nn.relu6, INFINITE),
    *activation("leaky_relu", tf.nn.leaky_relu, wide_tolerance=ROUNDED),
    *activation("leaky_relu", lambda x: tf.nn.leaky_relu(x, 0.3), wide_tolerance=ROUNDED, alpha=0.3),
    *activation("elu", tf.nn.elu),
    *activation("selu", tf.nn.selu),
    *activation("silu", tf.nn.silu),
    *activation("gelu", tf.nn.gelu, wide_tolerance=ROUNDED),
    *activation("gelu", lambda x: tf.nn.gelu(x, True), wide_tolerance=ROUNDED, approximate=True),
    *activation("celu", keras.ops.celu),
    *activation("celu", lambda x: keras.ops.celu(x, 0.5), alpha=0.5),
    *activation("mish", lambda x: x * tf.tanh(tf.nn.softplus(x))),
    *activation("hard_sigmoid", keras.ops.hard_sigmoid),
    *activation("hard_silu", keras.ops.hard_silu),
    *activation("softplus", tf.nn.softplus),
    *activation("softsign", tf.nn.softsign),
    case("bias_add", [uniform([2, 3, 4]), uniform([4])], tf.nn.bias_add),
    case("bias_add", [uniform([2, 4, 3, 2]), uniform([4])], lambda x, b: tf.nn.bias_add(x, b, "NCHW"), data_format="channels_first"),
    case(ATTENTION, [*heads(), array(0.0)], attention),
    case(ATTENTION, [*heads(), booleans([3, 5])], attention),
    case(ATTENTION, [*heads(), uniform([2, 1, 1, 5])], lambda *x: attention(*x, scale=0.7), scale=0.7),
    case(ATTENTION, [*heads(), array(0.0)], lambda *x: attention(*x, causal=True), causal=True),
    case(ATTENTION, [*heads(), array([[False] * 5, [True] * 5, [False, True] * 2 + [False]], "bool")], attention),
    case(ATTENTION, [*behind_places(), uniform([2, 1, 5])], places_first, causal=True, qkv_layout="BTNH"),
    case(f"{ATTENTION}_gradient", [*heads(), booleans([3, 5]), uniform([2, 2, 3, 3])], gradient_of(attention, 0, 1, 2)),
    case(
        f"{ATTENTION}_gradient",
        [*behind_places(), uniform([2, 1, 5]), uniform([2, 3, 2, 3])],
        gradient_of(places_first, 0, 1, 2),
        causal=True,
        qkv_layout="BTNH",
    ),
    case("gelu_gradient", [uniform([3, 4]), uniform([3, 4])], gradient_of(tf.nn.gelu, 0)),
    case("gelu_gradient", [uniform([3, 4]), uniform([3, 4])], gradient_of(lambda x: tf.nn.gelu(x, True), 0), approximate=True),
    case("gelu_gradient", [uniform([7], dtype="float64"), uniform([7], dtype="float64")], gradient_of(tf.nn.gelu, 0), tolerance=ROUNDED),
]
