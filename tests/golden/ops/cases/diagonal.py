"""Diagonals and bands of matrices."""

import tensorflow as tf
from make import booleans, case, integers, uniform

CASES = [
    case("diag", [uniform([2, 3])], tf.linalg.diag),
    case("diag", [uniform([2])], lambda x: tf.linalg.diag(x, k=-1), k=-1),
    case("diag", [uniform([2])], lambda x: tf.linalg.diag(x, k=1, num_rows=2, num_cols=4), k=1, num_rows=2, num_cols=4),
    case("diag", [booleans([2])], tf.linalg.diag),
    case("diag_part", [uniform([2, 3, 4])], tf.linalg.diag_part),
    case("diag_part", [uniform([3, 4])], lambda x: tf.linalg.diag_part(x, k=2), k=2),
    case("diag_part", [uniform([3, 2])], lambda x: tf.linalg.diag_part(x, k=-2), k=-2),
    case("set_diag", [uniform([2, 3, 3]), uniform([2, 3])], tf.linalg.set_diag),
    case("set_diag", [uniform([3, 4]), uniform([2])], lambda x, d: tf.linalg.set_diag(x, d, k=-1), k=-1),
    case("band_part", [uniform([2, 3, 4])], lambda x: tf.linalg.band_part(x, 1, 0), num_lower=1, num_upper=0),
    case("band_part", [uniform([3, 3])], lambda x: tf.linalg.band_part(x, -1, 1), num_lower=-1, num_upper=1),
    case("band_part", [integers([3, 2], 1, 9)], lambda x: tf.linalg.band_part(x, 0, -1), num_lower=0, num_upper=-1),
    case("tensor_diag", [uniform([2, 3])], tf.linalg.tensor_diag),
    case("tensor_diag_part", [uniform([2, 3, 2, 3])], tf.linalg.tensor_diag_part),
    case("trace", [uniform([2, 3, 3])], tf.linalg.trace),
    case("trace", [integers([2, 3], 0, 9)], tf.linalg.trace),
]
