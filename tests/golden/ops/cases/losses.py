"""Softmax, and losses of logits."""

import numpy as np
import tensorflow as tf
from make import array, case, integers, uniform

LARGE = [[1000.0, 0.0, -1000.0], [-np.inf, 0.0, 1.0]]
# Where labels do not sum to 1, TensorFlow's gradient is not the derivative.
LABELS = [[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.0, 0.5], [0.25, 0.25, 0.25, 0.25]]


def ctc(blank_index):
    """TensorFlow's loss takes 32-bit numbers only."""

    def loss(labels, logits, label_length, logit_length):
        integers = (tf.cast(x, tf.int32) for x in (labels, label_length, logit_length))
        labels, label_length, logit_length = integers
        found = tf.nn.ctc_loss(labels, tf.cast(logits, tf.float32), label_length, logit_length, blank_index=blank_index)
        return tf.cast(found, logits.dtype)

    return loss


def softmax_gradient(axis):
    return lambda y, flow: (flow - tf.reduce_sum(flow * y, axis, keepdims=True)) * y


def log_softmax_gradient(axis):
    return lambda y, flow: flow - tf.exp(y) * tf.reduce_sum(flow, axis, keepdims=True)


def cross_entropy_gradient(labels, logits, flow):
    total = tf.reduce_sum(labels, -1, keepdims=True)
    return (tf.nn.softmax(logits) * total - labels) * flow[..., None]


def sparse_gradient(labels, logits, flow):
    return cross_entropy_gradient(tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype), logits, flow)


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
    case("ctc_loss", [array([[1, 2, 2], [3, 1, 0]], "int32"), uniform([6, 2, 4]), array([3, 2], "int32"), array([6, 4], "int32")], ctc(0)),
    case("ctc_loss", [array([[0, 1], [1, 1], [2, 0], [1, 0]], "int64"), uniform([5, 4, 4]), array([2, 2, 1, 0], "int64"), array([5, 3, 1, 2], "int64")], ctc(-1), blank_index=-1),
    case("ctc_loss", [array([[1, 2]], "int64"), uniform([4, 1, 3], dtype="float64"), array([2], "int64"), array([4], "int64")], ctc(0), tolerance=1e-6),
    # No way to fit three labels into two frames; TensorFlow answers with a large number.
    case("ctc_loss", [array([[1, 2, 1]], "int32"), uniform([2, 1, 3]), array([3], "int32"), array([2], "int32")], lambda *_: np.array([np.inf], np.float32), by="numpy"),
    case("softmax_gradient", [uniform([3, 40], 0.0, 0.1), uniform([3, 40])], softmax_gradient(1)),
    case("softmax_gradient", [uniform([3, 4, 2], 0.0, 1.0), uniform([3, 4, 2])], softmax_gradient(1), axis=1),
    case("log_softmax_gradient", [uniform([3, 40]), uniform([3, 40])], log_softmax_gradient(1)),
    case("log_softmax_gradient", [uniform([3, 4, 2]), uniform([3, 4, 2])], log_softmax_gradient(0), axis=0),
    case("softmax_cross_entropy_gradient", [array(LABELS), uniform([3, 4]), uniform([3])], cross_entropy_gradient),
    case("softmax_cross_entropy_gradient", [uniform([0, 4]), uniform([0, 4]), uniform([0])], cross_entropy_gradient),
    case("sparse_softmax_cross_entropy_gradient", [integers([2, 3], 0, 4), uniform([2, 3, 4]), uniform([2, 3])], sparse_gradient),
    case("sparse_softmax_cross_entropy_gradient", [array([0, 1], "int32"), array(LARGE[:1] * 2), uniform([2])], sparse_gradient),
]
