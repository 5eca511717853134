"""Reductions and scans."""

import tensorflow as tf
from make import array, case, uniform

CASES = [
    case("reduce_sum", [uniform([2, 3])], lambda x: tf.reduce_sum(x, 1), axis=[1]),
    case("reduce_max", [array([[1.0, 3.0, 3.0]])], lambda x: tf.reduce_max(x, 1), axis=[1]),
    case("cumsum", [uniform([2, 3])], lambda x: tf.cumsum(x, 1, reverse=True), axis=1, reverse=True),
]
