"""Activations."""

import numpy as np
import tensorflow as tf
from make import array, case, uniform

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


CASES = [
    *activation("relu", tf.nn.relu, [*INFINITE, np.nan]),
    *activation("relu6", tf.nn.relu6, INFINITE),
    *activation("leaky_relu", tf.nn.leaky_relu, wide_tolerance=ROUNDED),
    *activation("leaky_relu", lambda x: tf.nn.leaky_relu(x, 0.3), wide_tolerance=ROUNDED, alpha=0.3),
    *activation("elu", tf.nn.elu),
    *activation("selu", tf.nn.selu),
    *activation("silu", tf.nn.silu),
    *activation("gelu", tf.nn.gelu, wide_tolerance=ROUNDED),
    *activation("gelu", lambda x: tf.nn.gelu(x, True), wide_tolerance=ROUNDED, approximate=True),
    *activation("softplus", tf.nn.softplus),
    *activation("softsign", tf.nn.softsign),
]
