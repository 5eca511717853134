"""Folding slices by segments."""

import tensorflow as tf
from make import array, case, integers, uniform

# Segment 2 is empty, and a negative number belongs to none.
SORTED = array([0, 0, 1, 3, 3], "int64")
MIXED = array([3, -1, 0, 3, 0], "int64")
TIES = array([1.0, 3.0, 3.0, 2.0, 2.0])
ZEROS = array([0.0, 2.0, 3.0, 0.0, 0.0])


def unsorted(fold, count=4):
    return lambda x, ids: fold(x, ids, count)


CASES = [
    *(
        case(f"unsorted_segment_{name}", [uniform([5, 2]), MIXED], unsorted(fold), num_segments=4)
        for name, fold in [
            ("sum", tf.math.unsorted_segment_sum),
            ("prod", tf.math.unsorted_segment_prod),
            ("max", tf.math.unsorted_segment_max),
            ("min", tf.math.unsorted_segment_min),
            ("mean", tf.math.unsorted_segment_mean),
            ("sqrt_n", tf.math.unsorted_segment_sqrt_n),
        ]
    ),
    case("unsorted_segment_sum", [uniform([2, 3, 2]), integers([2, 3], 0, 2)], unsorted(tf.math.unsorted_segment_sum, 2), num_segments=2),
    case("unsorted_segment_sum", [integers([5], 0, 9), MIXED], unsorted(tf.math.unsorted_segment_sum), num_segments=4),
    case("unsorted_segment_sum", [uniform([0, 2]), array([], "int32")], unsorted(tf.math.unsorted_segment_sum, 2), num_segments=2),
    case("unsorted_segment_prod", [ZEROS, array([0, 0, 0, 1, 1], "int64")], unsorted(tf.math.unsorted_segment_prod, 2), num_segments=2),
    case("unsorted_segment_max", [TIES, array([0, 0, 0, 1, 1], "int64")], unsorted(tf.math.unsorted_segment_max, 2), num_segments=2),
    case("unsorted_segment_max", [integers([5], 0, 9), MIXED], unsorted(tf.math.unsorted_segment_max), num_segments=4),
    case("unsorted_segment_min", [TIES, array([0, 0, 0, 1, 1], "int64")], unsorted(tf.math.unsorted_segment_min, 2), num_segments=2),
    case("segment_sum", [uniform([5, 2]), SORTED], tf.math.segment_sum, num_segments=4),
    case("segment_sum", [integers([5], 0, 9), SORTED], tf.math.segment_sum, num_segments=4),
    case("segment_mean", [uniform([5, 2]), SORTED], tf.math.segment_mean, num_segments=4),
    case("segment_prod", [uniform([5, 2]), SORTED], tf.math.segment_prod, num_segments=4),
    case("segment_max", [uniform([5, 2]), SORTED], tf.math.segment_max, num_segments=4),
    case("segment_max", [TIES, SORTED], tf.math.segment_max, num_segments=4),
    case("segment_min", [uniform([5, 2]), SORTED], tf.math.segment_min, num_segments=4),
    case("segment_min", [TIES, SORTED], tf.math.segment_min, num_segments=4),
]
