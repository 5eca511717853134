"""Rounding and clipping. Rounded division is in math.py."""

import tensorflow as tf
from make import array, case, uniform

HALVES = array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, -0.6])

CASES = [
    case("floor", [HALVES], tf.floor),
    case("ceil", [HALVES], tf.math.ceil),
    case("round", [HALVES], tf.round),
    case("round", [uniform([2, 3], -9.0, 9.0, "float64")], tf.round),
    # On the bounds the gradient passes.
    case("clip_by_value", [array([-2.0, -1.0, 0.0, 1.5, 2.0])], lambda x: tf.clip_by_value(x, -1.0, 1.5), clip_value_min=-1.0, clip_value_max=1.5),
    case("clip_by_value", [uniform([2, 3])], lambda x: tf.clip_by_value(x, -0.5, 0.5), clip_value_min=-0.5, clip_value_max=0.5),
]
