"""Losses: one number for a batch, from targets and predictions."""

from __future__ import annotations

from typing import Any

import gradtape as tf

# What Keras keeps probabilities away from 0 and 1 by.
_EPSILON = 1e-7


def _pair(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    y_pred = tf.convert_to_tensor(y_pred)
    if not isinstance(y_true, (tf.Tensor, tf.Variable)):
        return tf.convert_to_tensor(y_true, y_pred.dtype), y_pred
    return tf.cast(y_true, y_pred.dtype), y_pred


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of squared differences along the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    return tf.reduce_mean(tf.math.squared_difference(y_pred, y_true), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of absolute differences along the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    return tf.reduce_mean(tf.abs(y_true - y_pred), axis=-1)


MSE = mse = mean_squared_error
MAE = mae = mean_absolute_error


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """Squared near the target, linear far from it; mean along the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    error = tf.abs(y_true - y_pred)
    near = error * error * 0.5
    far = error * delta - 0.5 * delta * delta
    return tf.reduce_mean(tf.where(tf.less_equal(error, delta), near, far), axis=-1)


def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of independent probabilities; mean along the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    if from_logits:
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=y_true, logits=y_pred)
    else:
        p = tf.clip_by_value(y_pred, _EPSILON, 1.0 - _EPSILON)
        each = -(y_true * tf.math.log(p) + (1.0 - y_true) * tf.math.log(1.0 - p))
    return tf.reduce_mean(each, axis=-1)


def categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of distributions along the last axis."""
    y_true, y_pred = _pair(y_true, y_pred)
    if from_logits:
        return tf.nn.softmax_cross_entropy_with_logits(labels=y_true, logits=y_pred)
    y_pred = y_pred / tf.reduce_sum(y_pred, axis=-1, keepdims=True)
    p = tf.clip_by_value(y_pred, _EPSILON, 1.0 - _EPSILON)
    return -tf.reduce_sum(y_true * tf.math.log(p), axis=-1)


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of class numbers along the last axis."""
    y_pred = tf.convert_to_tensor(y_pred)
    y_true = tf.convert_to_tensor(y_true)
    # The shape of what the program made is known; that of predictions would have to be asked for.
    if y_true.shape[-1:] == (1,) and y_true.ndim == y_pred.ndim:
        y_true = tf.squeeze(y_true, axis=-1)
    if not y_true.dtype.is_integer:
        y_true = tf.cast(y_true, tf.int64)
    if not from_logits:
        y_pred = tf.math.log(tf.clip_by_value(y_pred, _EPSILON, 1.0 - _EPSILON))
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y_true, logits=y_pred)


class Loss:
    """A loss with a reduction.

    Args:
        name: Name for people.
        reduction: "sum_over_batch_size" (the mean), "sum", or "none" or None for one loss each.
    """

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size"
    ) -> None:
        if reduction not in ("sum_over_batch_size", "mean", "sum", "none", None):
            raise ValueError(f"Invalid value for argument `reduction`: {reduction!r}")
        self.reduction = reduction
        self.name = name or type(self).__name__.lower()

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of a batch."""
        losses = self.call(y_true, y_pred)
        if sample_weight is not None:
            losses = losses * tf.cast(tf.convert_to_tensor(sample_weight), losses.dtype)
        if self.reduction == "sum":
            return tf.reduce_sum(losses)
        if self.reduction in ("none", None):
            return losses
        return tf.reduce_mean(losses)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        raise TypeError(f"{type(self).__name__} does not say how to compute the loss")


class MeanSquaredError(Loss):
    """Mean of squared differences."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        return mean_squared_error(y_true, y_pred)


class MeanAbsoluteError(Loss):
    """Mean of absolute differences."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        return mean_absolute_error(y_true, y_pred)


class Huber(Loss):
    """Squared near the target, linear beyond `delta`."""

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(name, reduction)
        self.delta = delta

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        return huber(y_true, y_pred, self.delta)


class _CrossEntropy(Loss):
    def __init__(
        self,
        from_logits: bool = False,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(name, reduction)
        self.from_logits = from_logits


class BinaryCrossentropy(_CrossEntropy):
    """Cross-entropy of independent probabilities."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        return binary_crossentropy(y_true, y_pred, self.from_logits)


class CategoricalCrossentropy(_CrossEntropy):
    """Cross-entropy of distributions."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        return categorical_crossentropy(y_true, y_pred, self.from_logits)


class SparseCategoricalCrossentropy(_CrossEntropy):
    """Cross-entropy of class numbers."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one loss for each example."""
        return sparse_categorical_crossentropy(y_true, y_pred, self.from_logits)
