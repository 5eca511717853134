"""Activations."""

import numpy as np
import tensorflow as tf
from make import array, case, uniform

# Where activations bend, saturate or overflow.
EDGES = [-np.inf, -200.0, -6.0, -3.0, -1.0, -0.0, 0.0, 1.0, 3.0, 6.0, 200.0, np.inf, np.nan]
FINITE = EDGES[1:-2]


def activation(name, oracle, edges=FINITE, **attributes):
    return [
        case(name, [uniform([3, 4], -4.0, 4.0)], oracle, **attributes),
        case(name, [array(edges)], oracle, **attributes),
        case(name, [uniform([5], dtype="float64")], oracle, **attributes),
        case(name, [uniform([0, 3])], oracle, **attributes),
    ]


CASES = [
    *activation("relu", tf.nn.relu, EDGES),
    *activation("relu6", tf.nn.relu6, EDGES),
    *activation("leaky_relu", tf.nn.leaky_relu),
    *activation("leaky_relu", lambda x: tf.nn.leaky_relu(x, 0.3), alpha=0.3),
    *activation("elu", tf.nn.elu),
    *activation("selu", tf.nn.selu),
    *activation("silu", tf.nn.silu),
    *activation("gelu", tf.nn.gelu),
    *activation("gelu", lambda x: tf.nn.gelu(x, True), approximate=True),
    *activation("softplus", tf.nn.softplus),
    *activation("softsign", tf.nn.softsign),
]
