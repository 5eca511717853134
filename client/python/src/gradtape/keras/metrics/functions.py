"""The metrics as functions: one number for each example."""

from __future__ import annotations

from typing import Any

import gradtape as tf
from gradtape.keras.losses.functions import pair


def accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether predictions equal the targets."""
    y_true, y_pred = pair(y_true, y_pred)
    return tf.cast(tf.equal(y_true, y_pred), tf.float32)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Any:
    """Whether predictions are on the targets' side of a threshold."""
    y_true, y_pred = pair(y_true, y_pred)
    above = tf.cast(tf.greater(y_pred, threshold), y_true.dtype)
    return tf.cast(tf.equal(y_true, above), tf.float32)


def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the likeliest class is the target's."""
    y_pred = tf.convert_to_tensor(y_pred)
    y_true = tf.argmax(tf.convert_to_tensor(y_true), axis=-1)
    return tf.cast(tf.equal(y_true, tf.argmax(y_pred, axis=-1)), tf.float32)


def _classes(y_true: Any, y_pred: Any) -> Any:
    """Class numbers as int64, without a last axis of extent 1."""
    y_true = tf.cast(tf.convert_to_tensor(y_true), tf.int64)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = tf.squeeze(y_true, -1)
    return y_true


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the likeliest class is the target."""
    y_pred = tf.convert_to_tensor(y_pred)
    y_true = _classes(y_true, y_pred)
    return tf.cast(tf.equal(y_true, tf.argmax(y_pred, axis=-1)), tf.float32)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """Whether fewer than `k` classes are likelier than the target."""
    y_pred = tf.convert_to_tensor(y_pred)
    y_true = _classes(y_true, y_pred)
    chosen = tf.one_hot(y_true, y_pred.shape[-1], dtype=y_pred.dtype)
    own = tf.reduce_sum(chosen * y_pred, axis=-1, keepdims=True)
    likelier = tf.reduce_sum(tf.cast(tf.greater(y_pred, own), tf.float32), axis=-1)
    return tf.cast(tf.less(likelier, float(k)), tf.float32)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """Whether fewer than `k` classes are likelier than the target's."""
    classes = tf.argmax(tf.convert_to_tensor(y_true), axis=-1)
    return sparse_top_k_categorical_accuracy(classes, y_pred, k)


def squared_error(y_true: Any, y_pred: Any) -> Any:
    """Squares of differences."""
    y_true, y_pred = pair(y_true, y_pred)
    return tf.math.squared_difference(y_pred, y_true)


def cosine(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Cosine of the angle between vectors along an axis."""
    return -tf.keras.losses.cosine_similarity(y_true, y_pred, axis)


def _centred(y: Any, axis: Any) -> tuple[Any, Any]:
    mean = tf.reduce_mean(y, axis=axis, keepdims=True)
    return y - mean, mean


def pearson_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """Covariance in units of both standard deviations, along an axis."""
    (true, _), (pred, _) = (_centred(y, axis) for y in pair(y_true, y_pred))
    true, pred = (y / tf.math.reduce_std(y, axis=axis, keepdims=True) for y in (true, pred))
    return tf.reduce_mean(true * pred, axis=axis)


def concordance_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """How near pairs lie to the line where both are equal, along an axis (Lin 1989)."""
    (true, mean), (pred, other) = (_centred(y, axis) for y in pair(y_true, y_pred))
    spread = tf.math.squared_difference(mean, other)
    for y in (true, pred):
        spread = spread + tf.math.reduce_variance(y, axis=axis, keepdims=True)
    return tf.reduce_mean(2.0 * true * pred / (spread + 1e-7), axis=axis)


def best_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Returns the accuracy that suits targets and predictions, as Keras chooses it."""
    shape: tuple[int, ...] = getattr(y_true, "shape", ())
    if y_pred.shape[-1] == 1:
        return binary_accuracy
    sparse = len(shape) < y_pred.ndim or shape[-1] == 1
    return sparse_categorical_accuracy if sparse else categorical_accuracy


def best_crossentropy(y_true: Any, y_pred: Any) -> Any:
    """Returns the cross-entropy that suits targets and predictions, as Keras chooses it."""
    losses = tf.keras.losses
    return {
        binary_accuracy: losses.binary_crossentropy,
        sparse_categorical_accuracy: losses.sparse_categorical_crossentropy,
        categorical_accuracy: losses.categorical_crossentropy,
    }[best_accuracy(y_true, y_pred)]


__all__ = [
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "concordance_correlation",
    "pearson_correlation",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]
