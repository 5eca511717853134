"""Means, variances and what is normalised by them (`tf.nn.moments`)."""

from __future__ import annotations

import math
from typing import Any

from gradtape import _export, _ops
from gradtape.tensor import Tensor, Value, constant, convert, convert_to_tensor

_sum = _export.public(_ops.reduce_sum)


def moments(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance along axes; `shift` and `name` are ignored."""
    axes = _export.integers(axes)
    if not axes:
        x = _ops.identity(x)
        return x, _ops.zeros_like(x)
    mean, variance = _ops.moments(x, axis=axes, keepdims=keepdims)
    return mean, variance


def weighted_moments(
    x: Any, axes: Any, frequency_weights: Any, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance along axes of elements that count as often as their weights say."""
    x = _value(x)
    weights = _value(frequency_weights)
    if weights.dtype != x.dtype:
        weights = _ops.cast(weights, dtype=x.dtype)
    weights = weights + _ops.zeros_like(x)
    total = _sum(weights, axes, True)
    mean = _sum(weights * x, axes, True) / total
    variance = _sum(weights * _ops.squared_difference(x, mean), axes, True) / total
    if keepdims:
        return mean, variance
    axes = tuple(_export.integers(axes))
    return _ops.squeeze(mean, axis=axes), _ops.squeeze(variance, axis=axes)


def sufficient_statistics(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Any]:
    """Count, sum and sum of squares along axes, from which `normalize_moments` makes moments.

    Args:
        x: The elements.
        axes: The axes.
        shift: Is subtracted from the elements first, for accuracy.
        keepdims: Whether the axes stay, with extent 1.
        name: Ignored.

    Returns:
        The count, the sum, the sum of squares, and `shift`.
    """
    x = _value(x)
    count = math.prod(x.shape[axis] for axis in _export.integers(axes))
    shifted = x if shift is None else x - shift
    sums = _sum(shifted, axes, keepdims)
    return constant(count, x.dtype), sums, _sum(_ops.square(shifted), axes, keepdims), shift


def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance from what `sufficient_statistics` returns."""
    divisor = _ops.reciprocal(counts)
    shifted = _ops.multiply(mean_ss, divisor)
    mean = _ops.identity(shifted) if shift is None else _ops.add(shifted, shift)
    return mean, _ops.multiply(variance_ss, divisor) - _ops.square(shifted)


def layer_normalized(x: Value, scale: Any, offset: Any, axes: Any, epsilon: float) -> Tensor:
    """Shifts and scales each example along axes to mean 0 and variance 1.

    Args:
        x: The tensor.
        scale: Is multiplied by, or None; it has the extents of the axes, in the order of `x`.
        offset: Is added, or None; likewise.
        axes: The axis, or axes.
        epsilon: Is added to the variance.
    """
    axes = tuple(sorted(axis % x.ndim for axis in _export.integers(axes)))
    extents = tuple(x.shape[axis] for axis in axes)
    scale, offset = (
        _ops.full(shape=extents, value=default, dtype=x._dtype)
        if weight is None
        else _ops.cast(weight, dtype=x._dtype)
        for weight, default in ((scale, 1.0), (offset, 0.0))
    )
    return _ops.layer_normalization(x, scale, offset, axis=axes, epsilon=epsilon)


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: float,
    name: str | None = None,
) -> Tensor:
    """Normalises by moments that are given, (x - mean) * scale / sqrt(variance + epsilon) + offset.

    Args:
        x: The tensor.
        mean: Broadcasts against `x`, as all that follow.
        variance: The variance.
        offset: Is added, or None.
        scale: Is multiplied by, or None.
        variance_epsilon: Is added to the variance.
        name: Ignored.
    """
    x = _value(x)
    offset = convert(0.0 if offset is None else offset, x._dtype)
    scale = convert(1.0 if scale is None else scale, x._dtype)
    return _ops.batch_normalization(x, mean, variance, offset, scale, epsilon=variance_epsilon)


def batch_norm_with_global_normalization(
    input: Any,
    mean: Any,
    variance: Any,
    beta: Any,
    gamma: Any,
    variance_epsilon: float,
    scale_after_normalization: bool,
    name: str | None = None,
) -> Tensor:
    """`batch_normalization` with the offset `beta` and, if so wanted, the scale `gamma`."""
    scale = gamma if scale_after_normalization else None
    return batch_normalization(input, mean, variance, beta, scale, variance_epsilon)


def compute_average_loss(
    per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None
) -> Tensor:
    """The sum of losses, times weights, divided by the size of the batch: that of the losses."""
    loss = _value(per_example_loss)
    if sample_weight is not None:
        weight = _ops.cast(_value(sample_weight), dtype=loss.dtype)
        while weight.ndim < loss.ndim:
            weight = _ops.expand_dims(weight, axis=-1)
        loss = loss * weight
    size = global_batch_size
    if size is None:
        size = loss.shape[0] if loss.ndim else 1
    size = _ops.cast(size, dtype=loss.dtype) if isinstance(size, Value) else float(size)
    return _ops.reduce_sum(loss) / size


def scale_regularization_loss(regularization_loss: Any) -> Tensor:
    """The sum of losses: there is one replica to share it."""
    return _ops.reduce_sum(_value(regularization_loss))


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)
