"""Softmax, and losses of logits."""

import numpy as np
import tensorflow as tf
from make import array, case, integers, uniform

LARGE = [[1000.0, 0.0, -1000.0], [-np.inf, 0.0, 1.0]]
# Where labels do not sum to 1, TensorFlow's gradient is not the derivative.
LABELS = [[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.0, 0.5], [0.25, 0.25, 0.25, 0.25]]

CASES = [
    case("softmax", [uniform([3, 4])], tf.nn.softmax),
    case("softmax", [uniform([3, 4, 2])], lambda x: tf.nn.softmax(x, 1), axis=1),
    case("softmax", [array(LARGE)], tf.nn.softmax),
    case("softmax", [uniform([0, 3])], tf.nn.softmax),
    case("log_softmax", [uniform([3, 4])], tf.nn.log_softmax),
    case("log_softmax", [uniform([3, 4, 2])], lambda x: tf.nn.log_softmax(x, 0), axis=0),
    case("log_softmax", [array(LARGE)], tf.nn.log_softmax),
    case("softmax_cross_entropy_with_logits", [array(LABELS), uniform([3, 4])], lambda t, x: tf.nn.softmax_cross_entropy_with_logits(t, x)),
    case("softmax_cross_entropy_with_logits", [array([LABELS, LABELS[::-1]]), uniform([2, 3, 4])], lambda t, x: tf.nn.softmax_cross_entropy_with_logits(t, x)),
    case("softmax_cross_entropy_with_logits", [uniform([0, 4]), uniform([0, 4])], lambda t, x: tf.nn.softmax_cross_entropy_with_logits(t, x)),
    case("sparse_softmax_cross_entropy_with_logits", [integers([3], 0, 4), uniform([3, 4])], tf.nn.sparse_softmax_cross_entropy_with_logits),
    case("sparse_softmax_cross_entropy_with_logits", [integers([2, 3], 0, 4), uniform([2, 3, 4])], tf.nn.sparse_softmax_cross_entropy_with_logits),
    case("sparse_softmax_cross_entropy_with_logits", [array([0, 1], "int32"), array(LARGE[:1] * 2)], tf.nn.sparse_softmax_cross_entropy_with_logits),
    case("sigmoid_cross_entropy_with_logits", [uniform([3, 4], 0.0, 1.0), uniform([3, 4])], tf.nn.sigmoid_cross_entropy_with_logits),
    case("sigmoid_cross_entropy_with_logits", [array([0.0, 1.0, 0.0, 1.0]), array([200.0, 200.0, -200.0, -200.0])], tf.nn.sigmoid_cross_entropy_with_logits),
]
