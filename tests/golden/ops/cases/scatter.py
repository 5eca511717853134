"""Picking and changing slices by indices."""

import tensorflow as tf
from make import DType, array, booleans, case, integers, uniform

PAIRS = array([[0, 1], [2, 0], [0, 1], [1, 1]], "int64")
ROWS = array([[1], [0]], "int32")


def sums(values, indices):
    return tf.math.unsorted_segment_sum(values, indices, 4)


CASES = [
    case("gather", [uniform([4, 2]), array([1, 1, 3], "int64")], tf.gather),
    case("gather", [uniform([2, 3]), array([[2, 0], [1, 1]], "int32")], lambda x, i: tf.gather(x, i, axis=1), axis=1),
    case("gather", [uniform([2, 3, 2]), integers([2, 4], 0, 3)], lambda x, i: tf.gather(x, i, axis=1, batch_dims=1), axis=1, batch_dims=1),
    case("gather", [uniform([2, 3, 4]), integers([2], 0, 4)], lambda x, i: tf.gather(x, i, axis=2, batch_dims=1), axis=2, batch_dims=1),
    case("gather", [uniform([2, 3]), integers([0], 0, 1)], tf.gather),
    case("gather", [booleans([4]), integers([3], 0, 4)], tf.gather),
    case("scatter_sum", [uniform([3, 2]), array([1, 3, 1], "int64")], sums, extent=4),
    case("scatter_sum", [integers([3, 2], 0, 9), array([1, 3, 1], "int32")], sums, extent=4),
    case("one_hot", [array([[0, 3], [-1, 4]], "int64")], lambda i: tf.one_hot(i, 4), depth=4),
    case("one_hot", [array([1, 0], "int32")], lambda i: tf.one_hot(i, 2, dtype=tf.bool, on_value=True, off_value=False), depth=2, dtype=DType("bool")),
    case("gather_nd", [uniform([3, 2, 2]), PAIRS], tf.gather_nd),
    case("gather_nd", [uniform([3, 2]), ROWS], tf.gather_nd),
    case("gather_nd", [uniform([2, 3, 2]), integers([2, 4, 1], 0, 3)], lambda x, i: tf.gather_nd(x, i, batch_dims=1), batch_dims=1),
    case("gather_nd", [uniform([3, 2]), array([[], []], "int64")], tf.gather_nd, gradients=False),
    case("gather_nd", [booleans([3, 2]), PAIRS], tf.gather_nd),
    case("scatter_nd", [PAIRS, uniform([4, 2])], lambda i, v: tf.scatter_nd(i, v, [3, 2, 2]), shape=[3, 2, 2]),
    case("scatter_nd", [ROWS, integers([2, 3], 0, 9)], lambda i, v: tf.scatter_nd(i, v, [4, 3]), shape=[4, 3]),
    case("scatter_nd", [integers([0, 1], 0, 1), uniform([0, 2])], lambda i, v: tf.scatter_nd(i, v, [3, 2]), shape=[3, 2]),
    case("tensor_scatter_nd_update", [uniform([3, 2]), ROWS, uniform([2, 2])], tf.tensor_scatter_nd_update),
    # TensorFlow gives the gradient to every update of a place, also to those that are overwritten.
    case("tensor_scatter_nd_update", [uniform([3, 2]), PAIRS, uniform([4])], tf.tensor_scatter_nd_update, gradients=False),
    case("tensor_scatter_nd_update", [booleans([3, 2]), PAIRS, booleans([4])], tf.tensor_scatter_nd_update),
    case("tensor_scatter_nd_add", [uniform([3, 2]), PAIRS, uniform([4])], tf.tensor_scatter_nd_add),
    case("tensor_scatter_nd_add", [uniform([3, 2]), ROWS, uniform([2, 2])], tf.tensor_scatter_nd_add),
    case("tensor_scatter_nd_sub", [uniform([3, 2]), PAIRS, uniform([4])], tf.tensor_scatter_nd_sub),
    case("tensor_scatter_nd_sub", [integers([3, 2], 0, 9), PAIRS, integers([4], 0, 9)], tf.tensor_scatter_nd_sub),
    case("tensor_scatter_nd_max", [uniform([3, 2]), PAIRS, uniform([4])], tf.tensor_scatter_nd_max),
    case("tensor_scatter_nd_max", [array([1.0, 2.0, 3.0]), array([[0], [0], [1]], "int64"), array([5.0, 5.0, 2.0])], tf.tensor_scatter_nd_max),
    case("tensor_scatter_nd_min", [uniform([3, 2]), PAIRS, uniform([4])], tf.tensor_scatter_nd_min),
    case("tensor_scatter_nd_min", [integers([3, 2], 0, 9), ROWS, integers([2, 2], 0, 9)], tf.tensor_scatter_nd_min),
]
