"""Products that sum: matrix products and Einstein's sums."""

import tensorflow as tf
from make import case, integers, uniform

CASES = [
    case("matmul", [uniform([2, 3]), uniform([3, 4])], tf.matmul),
    case("matmul", [uniform([3, 2]), uniform([4, 3])], lambda a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True), transpose_a=True, transpose_b=True),
    case("matmul", [uniform([5, 1, 2, 3]), uniform([4, 3, 2])], tf.matmul),
    case("matmul", [uniform([2, 0]), uniform([0, 3])], tf.matmul),
    case("matmul", [uniform([2, 3], dtype="float64"), uniform([3, 2], dtype="float64")], tf.matmul),
    case("matmul", [integers([2, 3], -5, 5), integers([3, 4], -5, 5)], tf.matmul),
]
