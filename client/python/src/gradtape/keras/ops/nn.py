"""Activations, pools, convolutions and losses, as Keras names them."""

from __future__ import annotations

import math as _math
from typing import Any

import gradtape as tf
from gradtape import _ops
from gradtape._moments import layer_normalized
from gradtape.keras import activations as _activations, layers as _layers, losses as _losses
from gradtape.keras.layers.adaptive_pooling import adaptive_pool as _adaptive_pool
from gradtape.keras.ops._lift import floating, lift, lifted, value

# Activations whose names and parameters are those of `keras.activations`.
_OF_ACTIVATIONS = (
    "celu", "elu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "log_sigmoid", "log_softmax", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax",
    "squareplus", "swish", "tanh_shrink", "threshold",
)  # fmt: skip
for _name in _OF_ACTIVATIONS:
    globals()[_name] = lifted(getattr(_activations, _name))


def relu(x: Any) -> Any:
    """Rectifier."""
    return tf.nn.relu(value(x))


def gelu(x: Any, approximate: bool = True) -> Any:
    """Gaussian error linear unit."""
    return tf.nn.gelu(floating(x), approximate=approximate)


def one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """Ones at the numbers of classes, zeros elsewhere."""
    x = tf.cast(value(x), tf.int32)
    return tf.one_hot(x, num_classes, axis=axis, dtype=tf.as_dtype(dtype or "float32"))


def multi_hot(
    inputs: Any,
    num_classes: int | None = None,
    axis: int = -1,
    dtype: Any = None,
    sparse: bool = False,
) -> Any:
    """Ones at all numbers of classes in a row, zeros elsewhere."""
    if num_classes is None:
        raise ValueError("Argument `num_classes` must be specified.")
    rows = one_hot(inputs, num_classes, axis, dtype)
    return tf.reduce_max(rows, axis=1 if value(inputs).ndim > 1 else 0)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of each probability."""
    target, output = floating(target), floating(output)
    if from_logits:
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=output)
    output = tf.clip_by_value(output, 1e-7, 1.0 - 1e-7)
    return -(target * tf.math.log(output) + (1.0 - target) * tf.math.log(1.0 - output))


def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    """Cross-entropy of distributions."""
    return _losses.categorical_crossentropy(target, output, from_logits, axis=axis)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    """Cross-entropy of class numbers."""
    return _losses.sparse_categorical_crossentropy(target, output, from_logits, axis=axis)


def normalize(x: Any, axis: Any = -1, order: float = 2, epsilon: float | None = None) -> Any:
    """Vectors along an axis divided by their norm."""
    x = floating(x)
    least = 1e-7 if epsilon is None else epsilon
    if order == 2:
        squares = tf.reduce_sum(tf.square(x), axis=axis, keepdims=True)
        return x * tf.math.rsqrt(tf.maximum(squares, least**2))
    sizes = tf.reduce_sum(tf.pow(tf.abs(x), float(order)), axis=axis, keepdims=True)
    return x / tf.maximum(tf.pow(sizes, 1.0 / order), least)


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    axis: int,
    offset: Any = None,
    scale: Any = None,
    epsilon: float = 1e-3,
) -> Any:
    """Channels shifted and scaled by mean and variance, then scaled and shifted."""
    x = floating(x)
    shape = [1] * x.ndim
    shape[axis] = -1
    mean, variance, offset, scale = (
        None if each is None else tf.reshape(tf.cast(value(each), x.dtype), shape)
        for each in (mean, variance, offset, scale)
    )
    factor = tf.math.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    found = (x - mean) * factor
    return found if offset is None else found + offset


def layer_normalization(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    axis: Any = -1,
    epsilon: float | None = None,
    **kwargs: Any,
) -> Any:
    """Each example along axes shifted and scaled by its own mean and variance."""
    gamma, beta = (None if each is None else value(each) for each in (gamma, beta))
    return layer_normalized(floating(x), gamma, beta, axis, 1e-7 if epsilon is None else epsilon)


def rms_normalization(
    x: Any, scale: Any = None, axis: Any = -1, epsilon: float | None = None
) -> Any:
    """Vectors along an axis divided by the root of the mean of squares."""
    x = floating(x)
    squares = tf.reduce_mean(tf.square(x), axis=axis, keepdims=True)
    found = x * tf.math.rsqrt(squares + (1e-7 if epsilon is None else epsilon))
    return found if scale is None else found * value(scale)


def _layout(data_format: str | None, rank: int) -> str:
    spatial = "DHW"[3 - rank :]
    return f"NC{spatial}" if data_format == "channels_first" else f"N{spatial}C"


def _each(numbers: Any, rank: int) -> tuple[int, ...]:
    return (numbers,) * rank if isinstance(numbers, int) else tuple(numbers)


def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """Convolution."""
    x = floating(inputs)
    rank = x.ndim - 2
    return tf.nn.convolution(
        x, value(kernel), strides=_each(strides, rank), padding=padding.upper(),
        data_format=_layout(data_format, rank), dilations=_each(dilation_rate, rank),
    )  # fmt: skip


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """The transpose of a convolution."""
    x, kernel = floating(inputs), value(kernel)
    rank = x.ndim - 2
    kind = (_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose)[rank - 1]
    layer = kind(
        kernel.shape[-2], tuple(kernel.shape[:rank]), _each(strides, rank), padding,
        output_padding=output_padding, data_format=data_format,
        dilation_rate=_each(dilation_rate, rank), use_bias=False, dtype=x.dtype,
    )  # fmt: skip
    layer.kernel, layer.bias = kernel, None
    return layer.call(x)


def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """Blocks of pixels of what were channels."""
    return _blocks(tf.nn.depth_to_space, x, block_size, data_format)


def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> Any:
    """Channels of what were blocks of pixels."""
    return _blocks(tf.nn.space_to_depth, x, block_size, data_format)


def _blocks(op: Any, x: Any, block_size: int, data_format: str) -> Any:
    if data_format == "channels_first":
        return tf.transpose(op(tf.transpose(value(x), (0, 2, 3, 1)), block_size), (0, 3, 1, 2))
    return op(value(x), block_size)


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """Convolution of each channel by itself."""
    *window, channels, multiplier = value(kernel).shape
    grouped = tf.reshape(value(kernel), (*window, 1, channels * multiplier))
    return conv(inputs, grouped, strides, padding, data_format, dilation_rate)


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """Convolution of each channel by itself, and then of all of them in each point."""
    between = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(between, pointwise_kernel, 1, "valid", data_format)


def _pool(
    kind: str, inputs: Any, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> Any:
    x = floating(inputs)
    rank = x.ndim - 2
    first = data_format == "channels_first"
    if first:
        x = tf.transpose(x, (0, *range(2, rank + 2), 1))
    window = _each(pool_size, rank)
    steps = window if strides is None else _each(strides, rank)
    found = getattr(tf.nn, f"{kind}_pool{rank}d")(x, window, steps, padding.upper())
    return tf.transpose(found, (0, rank + 1, *range(1, rank + 1))) if first else found


def max_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """The largest of each window."""
    return _pool("max", inputs, pool_size, strides, padding, data_format)


def average_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """The mean of each window."""
    return _pool("avg", inputs, pool_size, strides, padding, data_format)


def _adaptive(kind: str, inputs: Any, output_size: Any, data_format: str | None) -> Any:
    x = floating(inputs)
    return _adaptive_pool(x, _each(output_size, x.ndim - 2), kind, data_format or "channels_last")


def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """The means of so many windows."""
    return _adaptive("avg", inputs, output_size, data_format)


def adaptive_max_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """The largest of so many windows."""
    return _adaptive("max", inputs, output_size, data_format)


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: Any = None,
    attn_logits_soft_cap: float | None = None,
) -> Any:
    """Attention of tensors of shape [batch, positions, heads, features].

    Args:
        query: The queries.
        key: The keys.
        value: The values.
        bias: What is added to the scores, of shape [batch, heads, targets, sources].
        mask: Which sources targets see, of the same shape.
        scale: Factor of the scores; one by the root of the features by default.
        is_causal: Whether a position sees only itself and what is before it.
        flash_attention: Ignored.
        attn_logits_soft_cap: What scores approach without exceeding it.
    """
    q, k, v = (tf.transpose(floating(x), (0, 2, 1, 3)) for x in (query, key, value))
    scores = tf.matmul(q, k, transpose_b=True)
    scores = scores * (1.0 / _math.sqrt(q.shape[-1]) if scale is None else scale)
    if attn_logits_soft_cap is not None:
        scores = tf.tanh(scores / attn_logits_soft_cap) * attn_logits_soft_cap
    if bias is not None:
        scores = scores + bias
    least = tf.ones_like(scores) * (0.7 * float(scores.dtype.min))
    if mask is not None:
        scores = tf.where(tf.broadcast_to(tf.cast(mask, tf.bool), scores.shape), scores, least)
    if is_causal:
        rows, columns = (tf.range(extent) for extent in scores.shape[-2:])
        scores = tf.where(tf.expand_dims(rows, -1) >= columns, scores, least)
    return tf.transpose(tf.matmul(tf.nn.softmax(scores), v), (0, 2, 1, 3))


def psnr(x1: Any, x2: Any, max_val: float) -> Any:
    """Peak signal to noise ratio of two tensors, in decibels."""
    error = tf.reduce_mean(tf.math.squared_difference(floating(x1), floating(x2)))
    return 20.0 * _math.log10(max_val) - 10.0 * tf.math.log(error) / _math.log(10.0)


def _segments(kind: str, data: Any, segment_ids: Any, num_segments: int | None) -> Any:
    numbers = tf.cast(value(segment_ids), tf.int32)
    count = int(tf.reduce_max(numbers)) + 1 if num_segments is None else num_segments
    return getattr(_ops, f"unsorted_segment_{kind}")(value(data), numbers, num_segments=count)


def segment_sum(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """Sums of parts with the same number."""
    return _segments("sum", data, segment_ids, num_segments)


def segment_max(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """The largest of parts with the same number."""
    return _segments("max", data, segment_ids, num_segments)


def segment_min(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """The smallest of parts with the same number."""
    return _segments("min", data, segment_ids, num_segments)


def segment_prod(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Any:
    """Products of parts with the same number."""
    return _segments("prod", data, segment_ids, num_segments)


__all__ = [*lift(globals(), __name__), *_OF_ACTIVATIONS]
