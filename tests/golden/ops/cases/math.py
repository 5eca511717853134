"""Elementwise arithmetic and functions."""

import tensorflow as tf
from make import array, case, uniform

CASES = [
    case("add", [uniform([2, 3]), uniform([3])], tf.add),
    case("floordiv", [array([7, -7, 7, -7], "int32"), array([2, 2, -2, -2], "int32")], tf.math.floordiv),
    case("maximum", [array([1.0, 2.0, 3.0]), array([1.0, 3.0, 2.0])], tf.maximum),
]
