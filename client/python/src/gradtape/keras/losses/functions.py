"""The losses as functions: one number for each example."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradtape as tf

# What Keras keeps probabilities away from 0 and 1 by.
_EPSILON = 1e-7


def pair(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Returns both as tensors of the predictions' dtype and, where an axis of 1 is all, rank."""
    y_pred = tf.convert_to_tensor(y_pred)
    if not isinstance(y_true, (tf.Tensor, tf.Variable)):
        y_true = tf.convert_to_tensor(y_true, y_pred.dtype)
    return same_rank(tf.cast(y_true, y_pred.dtype), y_pred)


def same_rank(x: Any, y: Any) -> tuple[Any, Any]:
    """Lets two tensors have the same rank if one has a last axis of extent 1 more."""
    if x.ndim == y.ndim + 1 and x.shape[-1] == 1:
        return (x, tf.expand_dims(y, -1)) if y.ndim == 1 else (tf.squeeze(x, -1), y)
    if y.ndim == x.ndim + 1 and y.shape[-1] == 1:
        return (tf.expand_dims(x, -1), y) if x.ndim == 1 else (x, tf.squeeze(y, -1))
    return x, y


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of squared differences along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    return tf.reduce_mean(tf.math.squared_difference(y_pred, y_true), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of absolute differences along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    return tf.reduce_mean(tf.abs(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of absolute differences in percent of the targets, along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    return 100.0 * tf.reduce_mean(
        tf.abs((y_true - y_pred) / tf.maximum(tf.abs(y_true), _EPSILON)), axis=-1
    )


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of squared differences of logarithms along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    first, second = (tf.math.log(tf.maximum(y, _EPSILON) + 1.0) for y in (y_pred, y_true))
    return tf.reduce_mean(tf.math.squared_difference(first, second), axis=-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Cosine of the angle between vectors along an axis, with the opposite sign."""
    y_true, y_pred = pair(y_true, y_pred)
    first, second = (tf.math.l2_normalize(y, axis=axis) for y in (y_pred, y_true))
    return -tf.reduce_sum(first * second, axis=axis)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """Squared near the target, linear far from it; mean along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    error = tf.abs(y_true - y_pred)
    near = error * error * 0.5
    far = error * delta - 0.5 * delta * delta
    return tf.reduce_mean(tf.where(tf.less_equal(error, delta), near, far), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """Logarithm of the hyperbolic cosine of differences; mean along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    error = y_pred - y_true
    each = error + tf.nn.softplus(error * -2.0) - math.log(2.0)
    return tf.reduce_mean(each, axis=-1)


def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """Kullback-Leibler divergence of distributions along the last axis."""
    y_true, y_pred = (tf.clip_by_value(y, _EPSILON, 1.0) for y in pair(y_true, y_pred))
    return tf.reduce_sum(y_true * tf.math.log(y_true / y_pred), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> Any:
    """Negative logarithm of the likelihood of counts; mean along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    return tf.reduce_mean(y_pred - y_true * tf.math.log(y_pred + _EPSILON), axis=-1)


def _signs(y_true: Any) -> Any:
    """Returns labels 0 and 1 as -1 and 1, and others as they are."""
    binary = tf.reduce_all(tf.logical_or(tf.equal(y_true, 0.0), tf.equal(y_true, 1.0)))
    return tf.where(binary, 2.0 * y_true - 1.0, y_true)


def hinge(y_true: Any, y_pred: Any) -> Any:
    """How much predictions fall short of a margin of 1; mean along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    return tf.reduce_mean(tf.maximum(1.0 - _signs(y_true) * y_pred, 0.0), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """Square of how much predictions fall short of a margin of 1; mean along the last axis."""
    y_true, y_pred = pair(y_true, y_pred)
    return tf.reduce_mean(tf.square(tf.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), axis=-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """How much the class falls short of a margin of 1 to the best other one."""
    y_true, y_pred = pair(y_true, y_pred)
    right = tf.reduce_sum(y_true * y_pred, axis=-1)
    wrong = tf.reduce_max((1.0 - y_true) * y_pred, axis=-1)
    return tf.maximum(wrong - right + 1.0, 0.0)


def _binary_each(y_true: Any, y_pred: Any, from_logits: bool) -> Any:
    if from_logits:
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=y_true, logits=y_pred)
    p = tf.clip_by_value(y_pred, _EPSILON, 1.0 - _EPSILON)
    return -(y_true * tf.math.log(p) + (1.0 - y_true) * tf.math.log(1.0 - p))


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of independent probabilities; mean along an axis.

    Args:
        y_true: Targets, 0 or 1.
        y_pred: Probabilities, or logits.
        from_logits: Whether they are logits.
        label_smoothing: Moves the targets towards one half by this share.
        axis: The axis.
    """
    y_true, y_pred = pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return tf.reduce_mean(_binary_each(y_true, y_pred, from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy in which what is predicted well counts little (Lin et al. 2018).

    Args:
        y_true: Targets, 0 or 1.
        y_pred: Probabilities, or logits.
        apply_class_balancing: Whether target 1 has the weight `alpha`, and 0 the rest.
        alpha: Weight of target 1.
        gamma: Exponent of what is left to a right prediction.
        from_logits: Whether predictions are logits.
        label_smoothing: Moves the targets towards one half by this share.
        axis: The axis of the mean.
    """
    y_true, y_pred = pair(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    p = tf.sigmoid(y_pred) if from_logits else y_pred
    right = y_true * p + (1.0 - y_true) * (1.0 - p)
    each = tf.pow(1.0 - right, gamma) * _binary_each(y_true, p, False)
    if apply_class_balancing:
        each = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * each
    return tf.reduce_mean(each, axis=axis)


def _smoothed(y_true: Any, y_pred: Any, label_smoothing: float, axis: int) -> Any:
    if not label_smoothing:
        return y_true
    return y_true * (1.0 - label_smoothing) + label_smoothing / y_pred.shape[axis]


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of distributions along an axis.

    Args:
        y_true: Target distributions.
        y_pred: Probabilities, or logits.
        from_logits: Whether they are logits.
        label_smoothing: Moves the targets towards equal shares by this share.
        axis: The axis of the classes.
    """
    y_true, y_pred = pair(y_true, y_pred)
    y_true = _smoothed(y_true, y_pred, label_smoothing, axis)
    if from_logits:
        return tf.nn.softmax_cross_entropy_with_logits(labels=y_true, logits=y_pred, axis=axis)
    y_pred = y_pred / tf.reduce_sum(y_pred, axis=axis, keepdims=True)
    p = tf.clip_by_value(y_pred, _EPSILON, 1.0 - _EPSILON)
    return -tf.reduce_sum(y_true * tf.math.log(p), axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Cross-entropy of distributions in which what is predicted well counts little.

    Args:
        y_true: Target distributions.
        y_pred: Probabilities, or logits.
        alpha: Factor of the loss.
        gamma: Exponent of what is left to a right prediction.
        from_logits: Whether predictions are logits.
        label_smoothing: Moves the targets towards equal shares by this share.
        axis: The axis of the classes.
    """
    y_true, y_pred = pair(y_true, y_pred)
    y_true = _smoothed(y_true, y_pred, label_smoothing, axis)
    if from_logits:
        y_pred = tf.nn.softmax(y_pred, axis=axis)
    p = y_pred / tf.reduce_sum(y_pred, axis=axis, keepdims=True)
    p = tf.clip_by_value(p, _EPSILON, 1.0 - _EPSILON)
    each = tf.pow(1.0 - p, gamma) * alpha * (-y_true * tf.math.log(p))
    return tf.reduce_sum(each, axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Any:
    """Cross-entropy of class numbers along an axis.

    Args:
        y_true: Class numbers.
        y_pred: Probabilities, or logits.
        from_logits: Whether they are logits.
        ignore_class: Number whose examples have no loss and do not count.
        axis: The axis of the classes.
    """
    y_pred, y_true = tf.convert_to_tensor(y_pred), tf.convert_to_tensor(y_true)
    if axis not in (-1, y_pred.ndim - 1):
        order = [i for i in range(y_pred.ndim) if i != axis % y_pred.ndim]
        y_pred = tf.transpose(y_pred, [*order, axis % y_pred.ndim])
    if y_true.shape[-1:] == (1,) and y_true.ndim == y_pred.ndim:
        y_true = tf.squeeze(y_true, axis=-1)
    if not y_true.dtype.is_integer:
        y_true = tf.cast(y_true, tf.int64)
    counts = None
    if ignore_class is not None:
        counts = tf.not_equal(y_true, ignore_class)
        y_true = tf.where(counts, y_true, tf.zeros_like(y_true))
    if not from_logits:
        y_pred = tf.math.log(tf.clip_by_value(y_pred, _EPSILON, 1.0 - _EPSILON))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y_true, logits=y_pred)
    if counts is not None:
        losses = tf.where(counts, losses, tf.zeros_like(losses))
        losses._keras_mask = counts
    return losses


def _overlap(y_true: Any, y_pred: Any, axis: Any) -> tuple[Any, Any, Any]:
    """Sums of the product, of the targets and of the predictions."""
    y_true, y_pred = pair(y_true, y_pred)
    return tuple(tf.reduce_sum(y, axis=axis) for y in (y_true * y_pred, y_true, y_pred))  # type: ignore[return-value]


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """One less the Sørensen-Dice coefficient, over axes or everything."""
    both, targets, predictions = _overlap(y_true, y_pred, axis)
    return 1.0 - (2.0 * both + _EPSILON) / (targets + predictions + _EPSILON)


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None
) -> Any:
    """One less the Tversky index: `alpha` weighs what was missed, `beta` false alarms.

    Keras' documentation says it the other way round than it computes; this is what it computes.
    """
    both, targets, predictions = _overlap(y_true, y_pred, axis)
    wrong = (targets - both) * alpha + (predictions - both) * beta
    return 1.0 - both / (both + wrong + _EPSILON)


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Any:
    """Distances of embeddings of one class, and closeness of others (Sun et al. 2020).

    Args:
        y_true: Class numbers.
        y_pred: Embeddings of length 1.
        ref_labels: Class numbers of what they are compared with; `y_true` by default.
        ref_embeddings: Embeddings of what they are compared with; `y_pred` by default.
        remove_diagonal: Whether no embedding is compared with itself.
        gamma: Factor of the exponents.
        margin: How far apart is far enough.
    """
    y_pred = tf.convert_to_tensor(y_pred)
    labels = tf.reshape(tf.cast(tf.convert_to_tensor(y_true), tf.int32), (-1, 1))
    others = y_pred if ref_embeddings is None else tf.convert_to_tensor(ref_embeddings)
    if ref_labels is None:
        theirs = labels
    else:
        theirs = tf.reshape(tf.cast(tf.convert_to_tensor(ref_labels), tf.int32), (-1, 1))
    distances = tf.maximum(1.0 - tf.matmul(y_pred, others, transpose_b=True), 0.0)
    alike = tf.equal(labels, tf.transpose(theirs))
    apart = tf.logical_not(alike)
    if remove_diagonal:
        alike = tf.logical_and(alike, ~np.eye(labels.shape[0], theirs.shape[0], dtype=bool))
    far = gamma * tf.maximum(margin + distances, 0.0) * (distances - margin)
    near = gamma * tf.maximum(1.0 + margin - distances, 0.0) * (1.0 - margin - distances)
    nothing = tf.ones_like(distances) * -np.inf
    losses = tf.nn.softplus(
        tf.reduce_logsumexp(tf.where(alike, far, nothing), axis=1)
        + tf.reduce_logsumexp(tf.where(apart, near, nothing), axis=1)
    )
    losses._keras_mask = losses > 0.0
    return losses


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Any:
    """`(1 - p^q) / q` of the probability of the class, whose number is the target.

    It bears wrong labels better than the logarithm (Zhang and Sabuncu 2018).
    """
    y_pred = tf.convert_to_tensor(y_pred)
    classes = tf.cast(tf.convert_to_tensor(y_true), tf.int64)
    hot = tf.one_hot(classes, y_pred.shape[-1], dtype=y_pred.dtype)
    p = tf.reduce_sum(hot * y_pred, axis=-1)
    return (1.0 - tf.pow(p, q)) / q


MSE = mse = mean_squared_error
MAE = mae = mean_absolute_error
MAPE = mape = mean_absolute_percentage_error
MSLE = msle = mean_squared_logarithmic_error
KLD = kld = kullback_leibler_divergence = kl_divergence
logcosh = log_cosh
bce, cce = binary_crossentropy, categorical_crossentropy

__all__ = [
    "KLD",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "bce",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "cce",
    "circle",
    "cosine_similarity",
    "dice",
    "hinge",
    "huber",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "log_cosh",
    "logcosh",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mse",
    "msle",
    "poisson",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]
