"""Building blocks of neural networks (`tf.nn`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtape import _export, _ops, random
from gradtape._blocks import channels_last
from gradtape._moments import (
    batch_norm_with_global_normalization,
    batch_normalization,
    compute_average_loss,
    moments,
    normalize_moments,
    scale_regularization_loss,
    sufficient_statistics,
    weighted_moments,
)
from gradtape._morphology import (
    conv2d_backprop_filter_v2,
    conv2d_backprop_input_v2,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
    dilation2d,
    erosion2d,
)
from gradtape._windows import (
    atrous_conv2d,
    atrous_conv2d_transpose,
    avg_pool,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    conv_transpose,
    convolution,
    depthwise_conv2d,
    max_pool,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_pool_with_argmax,
    pool,
    separable_conv2d,
)
from gradtape.array_ops import move_axis, space_to_batch
from gradtape.math import (
    in_top_k,
    l2_normalize,
    log_softmax,
    reduce_sum,
    sigmoid,
    softmax,
    softplus,
    softsign,
    tanh,
    top_k,
    zero_fraction,
)
from gradtape.tensor import Tensor, Value, constant, convert, convert_to_tensor

if TYPE_CHECKING:

    def __getattr__(name): ...


def relu(features: Any, name: str | None = None) -> Tensor:
    """Rectifier, max(x, 0)."""
    return _ops.relu(features)


def relu6(features: Any, name: str | None = None) -> Tensor:
    """Rectifier clipped at 6."""
    return _ops.relu6(features)


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """Rectifier with the slope `alpha` for negative inputs."""
    return _ops.leaky_relu(features, alpha=alpha)


def elu(features: Any, name: str | None = None) -> Tensor:
    """Exponential linear unit."""
    return _ops.elu(features)


def selu(features: Any, name: str | None = None) -> Tensor:
    """Scaled exponential linear unit."""
    return _ops.selu(features)


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Tensor:
    """Gaussian error linear unit, or its approximation by tanh."""
    return _ops.gelu(features, approximate=approximate)


def silu(features: Any, beta: float = 1.0) -> Tensor:
    """Sigmoid-weighted linear unit, x sigmoid(beta x)."""
    if isinstance(beta, float) and beta == 1.0:
        return _ops.silu(features)
    return _ops.multiply(features, _ops.sigmoid(_ops.multiply(features, beta)))


swish = silu


def softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, axis: int = -1, name: str | None = None
) -> Tensor:
    """Cross-entropy between distributions along an axis and the softmax of logits."""
    labels, logits = _labels_like_logits(labels, logits)
    if axis != -1:
        labels, logits = move_axis(labels, axis, -1), move_axis(logits, axis, -1)
    return _ops.softmax_cross_entropy_with_logits(labels, logits)


def sparse_softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, name: str | None = None
) -> Tensor:
    """Cross-entropy between class numbers and the softmax of logits along the last axis."""
    labels = labels if isinstance(labels, Value) else convert_to_tensor(labels)
    return _ops.sparse_softmax_cross_entropy_with_logits(labels, _value(logits))


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """Cross-entropy between probabilities and the sigmoid of logits, elementwise."""
    return _ops.sigmoid_cross_entropy_with_logits(*_labels_like_logits(labels, logits))


def dropout(
    x: Any, rate: float, noise_shape: Any = None, seed: int | None = None, name: str | None = None
) -> Tensor:
    """Sets a share of the elements to zero and scales up the rest.

    Args:
        x: The tensor.
        rate: The share, from 0 up to but not including 1.
        noise_shape: Shape of the random choices, which broadcast; that of `x` by default.
        seed: Seed of the choices.
        name: Ignored.
    """
    if not 0 <= rate < 1:
        raise ValueError(
            f"`rate` must be a scalar tensor or a float in the range [0, 1). Got: {rate}"
        )
    x = _value(x)
    if rate == 0:
        return _ops.identity(x)
    shape = x.shape if noise_shape is None else noise_shape
    kept = random.uniform(shape, dtype=x.dtype, seed=seed) >= rate
    return _ops.where(kept, x * (1.0 / (1.0 - rate)), _ops.zeros_like(x))


def space_to_depth(
    input: Any, block_size: int, data_format: str = "NHWC", name: str | None = None
) -> Tensor:
    """Moves each block of an image into the channels."""
    return channels_last(_ops.space_to_depth, input, block_size, data_format)


def depth_to_space(
    input: Any, block_size: int, data_format: str = "NHWC", name: str | None = None
) -> Tensor:
    """Moves channels of an image into blocks: the reverse of `space_to_depth`."""
    return channels_last(_ops.depth_to_space, input, block_size, data_format)


def bias_add(
    value: Any, bias: Any, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """Adds a vector along the channels: the last axis, or with "NC..." the second."""
    first = data_format is not None and data_format.startswith("NC")
    return _ops.bias_add(value, bias, data_format="channels_first" if first else "channels_last")


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """Half of the sum of squares."""
    return reduce_sum(_ops.square(t)) / 2


def local_response_normalization(
    input: Any,
    depth_radius: int = 5,
    bias: float = 1,
    alpha: float = 1,
    beta: float = 0.5,
    name: str | None = None,
) -> Tensor:
    """Divides by (bias + alpha * sum of squares in the neighbouring channels) ** beta."""
    return _ops.local_response_normalization(
        input, depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta
    )


lrn = local_response_normalization


def embedding_lookup(
    params: Any, ids: Any, max_norm: float | None = None, name: str | None = None
) -> Tensor:
    """Rows of a matrix; its gradient is sparse.

    Args:
        params: The matrix, or a tensor of more dimensions.
        ids: Numbers of rows.
        max_norm: Rows with a larger Euclidean norm are scaled to this one.
        name: Ignored.
    """
    rows = _ops.gather(params, ids)
    if max_norm is None:
        return rows
    axes = tuple(range(_value(ids).ndim, rows.ndim))
    squares = _ops.reduce_sum(_ops.square(rows), axis=axes, keepdims=True)
    norms = _ops.sqrt(_ops.where(squares > 0, squares, _ops.ones_like(squares)))
    return _ops.multiply(rows, max_norm) / _ops.maximum(norms, max_norm)


def ctc_loss(
    labels: Any,
    logits: Any,
    label_length: Any,
    logit_length: Any,
    logits_time_major: bool = True,
    unique: Any = None,
    blank_index: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Loss of label sequences whose places in the frames are not known.

    It is infinite where there are fewer frames than the labels need.

    Args:
        labels: Class numbers, batch x positions.
        logits: Frames x batch x classes.
        label_length: How many labels each sequence has.
        logit_length: How many frames each sequence has.
        logits_time_major: Whether frames come before the batch in `logits`.
        unique: Ignored.
        blank_index: The class that stands for no label; 0 by default, and negative ones count from
            the end.
        name: Ignored.
    """
    logits = logits if logits_time_major else move_axis(logits, 0, 1)
    return _ops.ctc_loss(labels, logits, label_length, logit_length, blank_index=blank_index or 0)


def crelu(features: Any, axis: int = -1, name: str | None = None) -> Tensor:
    """Rectifiers of `features` and of `-features`, joined along an axis."""
    features = _value(features)
    return _ops.relu(_ops.concat(features, _ops.negative(features), axis=axis))


def weighted_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, pos_weight: Any = None, name: str | None = None
) -> Tensor:
    """`sigmoid_cross_entropy_with_logits`, in which positive labels count `pos_weight` times."""
    labels, logits = _labels_like_logits(labels, logits)
    weight = 1.0 + (pos_weight - 1.0) * labels
    return (1.0 - labels) * logits + weight * _ops.softplus(_ops.negative(logits))


def log_poisson_loss(
    targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None
) -> Tensor:
    """exp(log_input) - log_input * targets; the full loss adds Stirling's log(targets!)."""
    targets, log_input = _labels_like_logits(targets, log_input)
    loss = _ops.exp(log_input) - log_input * targets
    if not compute_full_loss:
        return loss
    stirling = targets * _ops.log(targets) - targets + 0.5 * _ops.log(2.0 * math.pi * targets)
    between = _ops.logical_and(targets >= 0.0, targets <= 1.0)
    return loss + _ops.where(between, _ops.zeros_like(targets), stirling)


def collapse_repeated(
    labels: Any, seq_length: Any, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Leaves out labels that are equal to the one before. Both arguments are fetched.

    Args:
        labels: Tensor of shape [batch, longest].
        seq_length: The number of labels that count in each row.
        name: Ignored.

    Returns:
        The labels, filled up with zeros to the longest row that is left, and their numbers.
    """
    rows, lengths = np.asarray(_value(labels)), np.asarray(_value(seq_length))
    kept = [
        row[:n][np.diff(row[:n], prepend=row[:1] - 1) != 0]
        for row, n in zip(rows, lengths, strict=True)
    ]
    counts = np.array([len(row) for row in kept], lengths.dtype)
    packed = np.zeros((len(rows), max(counts, default=0)), rows.dtype)
    for row, left in zip(packed, kept, strict=True):
        row[: len(left)] = left
    return constant(packed), constant(counts)


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)


def _labels_like_logits(labels: Any, logits: Any) -> tuple[Value, Value]:
    if labels is None or logits is None:
        raise ValueError("Both `labels` and `logits` must be provided.")
    logits = _value(logits)
    return convert(labels, logits._dtype), logits


__all__ = [
    "atrous_conv2d", "atrous_conv2d_transpose", "avg_pool", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "batch_norm_with_global_normalization", "batch_normalization", "bias_add",
    "collapse_repeated", "compute_average_loss", "conv1d", "conv1d_transpose", "conv2d",
    "conv2d_backprop_filter_v2", "conv2d_backprop_input_v2", "conv2d_transpose", "conv3d",
    "conv3d_transpose", "conv_transpose", "convolution", "crelu", "ctc_loss", "depthwise_conv2d",
    "depthwise_conv2d_backprop_filter", "depthwise_conv2d_backprop_input", "dilation2d",
    "dropout", "embedding_lookup", "erosion2d", "in_top_k", "l2_loss", "l2_normalize",
    "local_response_normalization", "log_poisson_loss", "log_softmax", "lrn", "max_pool",
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool_with_argmax", "moments",
    "normalize_moments", "pool", "scale_regularization_loss", "separable_conv2d", "sigmoid",
    "softmax", "softplus", "softsign", "space_to_batch", "sufficient_statistics", "swish",
    "tanh", "top_k", "weighted_cross_entropy_with_logits", "weighted_moments", "zero_fraction",
]  # fmt: skip
__all__ += _export.export(globals(), "nn")
