"""Convolutions and pools (`tf.nn`): windows that slide over one to three spatial axes.

The server has one convolution and one pool of each kind, whose number of axes is the input's.
TensorFlow has a function
for each number of axes and its own ways to write steps and paddings; here they are translated.
"""

from __future__ import annotations

from typing import Any

from gradtape import _export, _ops, dtypes
from gradtape.tensor import Tensor, Value, convert_to_tensor


def convolution(
    input: Any,
    filters: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Convolution (correlation, as everywhere in machine learning) over one to three spatial axes.

    Args:
        input: Tensor of shape [batch, spatial axes, channels]; there may be more batch axes.
        filters: Tensor of shape [spatial extents, channels / groups, outputs]: where it has fewer
            input channels than
            `input`, the channels fall into groups.
        strides: Steps of the window: a number, or one for each spatial axis.
        padding: "VALID", "SAME", or pairs of paddings for each axis of `input`.
        data_format: "NWC", "NHWC" or "NDHWC", or with the channels second, as in "NCHW".
        dilations: Distances between cells of the window, given like `strides`. TensorFlow refuses
            other dilations than 1
            together with other strides than 1; here they may be combined.
        name: Ignored.
    """
    filters = _value(filters)
    return _convolution(filters.ndim - 2, input, filters, strides, padding, data_format, dilations)


def conv1d(
    input: Any,
    filters: Any,
    stride: Any,
    padding: Any,
    data_format: str = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Convolution over one spatial axis; see `convolution`."""
    return _convolution(1, input, filters, stride, padding, data_format, dilations)


def conv2d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Convolution over two spatial axes; see `convolution`."""
    return _convolution(2, input, filters, strides, padding, data_format, dilations)


def conv3d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Convolution over three spatial axes; see `convolution`."""
    return _convolution(3, input, filters, strides, padding, data_format, dilations)


def conv_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Transposed convolution: the gradient of `convolution` with respect to its input, as a layer.

    Args:
        input: Tensor of the shape that the convolution's output would have.
        filters: Tensor of shape [spatial extents, outputs, channels of `input`].
        output_shape: Shape of the result, which `strides` and `padding` leave open.
        strides: Steps of the window: a number, or one for each spatial axis.
        padding: "VALID", "SAME", or pairs of paddings for each axis.
        data_format: As for `convolution`.
        dilations: As for `convolution`.
        name: Ignored.
    """
    filters = _value(filters)
    sliding = _sliding(filters.ndim - 2, strides, padding, data_format, dilations)
    shape = _export.integers(output_shape)
    return _ops.convolution_input_gradient(filters, input, shape=shape, **sliding)


def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Transposed convolution over one spatial axis; see `conv_transpose`."""
    return conv_transpose(input, filters, output_shape, strides, padding, data_format, dilations)


def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Transposed convolution over two spatial axes; see `conv_transpose`."""
    return conv_transpose(input, filters, output_shape, strides, padding, data_format, dilations)


def conv3d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Transposed convolution over three spatial axes; see `conv_transpose`."""
    return conv_transpose(input, filters, output_shape, strides, padding, data_format, dilations)


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Convolution of each channel by itself with filters of its own.

    Args:
        input: Tensor of shape [batch, height, width, channels].
        filter: Tensor of shape [height, width, channels, multiplier].
        strides: Steps of the window, one for each axis of `input`.
        padding: "VALID", "SAME", or pairs of paddings for each axis of `input`.
        data_format: "NHWC" or "NCHW".
        dilations: Distances between cells of the window, down and across.
        name: Ignored.
    """
    filter = _value(filter)
    height, width, channels, multiplier = filter.shape
    grouped = _ops.reshape(filter, shape=(height, width, 1, channels * multiplier))
    return _convolution(2, input, grouped, strides, padding, data_format, dilations)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """`depthwise_conv2d`, and then a convolution with windows of one cell, to mix the channels."""
    each = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
    return _convolution(2, each, pointwise_filter, 1, "VALID", data_format, None)


def atrous_conv2d(
    value: Any, filters: Any, rate: int, padding: str, name: str | None = None
) -> Tensor:
    """`conv2d` with `rate` as the distance between cells of the window."""
    return _convolution(2, value, filters, 1, padding, None, rate)


def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: int, padding: str, name: str | None = None
) -> Tensor:
    """`conv2d_transpose` with `rate` as the distance between cells of the window."""
    return conv_transpose(value, filters, output_shape, 1, padding, None, rate)


def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    strides: Any = None,
    padding: str = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Largest element or mean of each window.

    Args:
        input: Tensor of shape [batch, spatial axes, channels], with one to three spatial axes.
        window_shape: Extents of the window.
        pooling_type: "MAX" or "AVG".
        strides: Steps of the window; ones by default.
        padding: "VALID" or "SAME".
        data_format: As for `convolution`.
        dilations: Distances between cells of the window; ones by default. As in TensorFlow, padding
            then counts as zeros.
        name: Ignored.
    """
    input = _value(input)
    rank = input.ndim - 2
    ksize = _per_axis(rank, window_shape, "window_shape")
    steps = 1 if strides is None else strides
    apart = _per_axis(rank, 1 if dilations is None else dilations, "dilations")
    if padding.upper() == "SAME" and any(distance > 1 for distance in apart):
        reaches = [(size - 1) * distance for size, distance in zip(ksize, apart, strict=True)]
        pairs = [(reach // 2, reach - reach // 2) for reach in reaches]
        pairs = [(0, 0), (0, 0), *pairs] if _is_first(data_format) else [(0, 0), *pairs, (0, 0)]
        input = _ops.pad(input, paddings=[n for pair in pairs for n in pair])
        padding = "VALID"
    op = {"MAX": _ops.max_pool, "AVG": _ops.avg_pool}[pooling_type.upper()]
    return op(input, ksize=ksize, **_sliding(rank, steps, padding, data_format, apart))


def max_pool(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """Largest element of each window; of equals the first gets the gradient.

    Args:
        input: Tensor of shape [batch, spatial axes, channels], with one to three spatial axes.
        ksize: Extents of the window: a number, or one for each spatial axis, or one for each axis.
        strides: Steps of the window, given in the same way.
        padding: "VALID", "SAME", or pairs of paddings for each axis.
        data_format: "NWC", "NHWC" or "NDHWC", or with the channels second, as in "NCHW".
        name: Ignored.
    """
    return _pool(_ops.max_pool, None, input, ksize, strides, padding, data_format)


def max_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NWC",
    name: str | None = None,
) -> Tensor:
    """Largest element of each window over one spatial axis; see `max_pool`."""
    return _pool(_ops.max_pool, 1, input, ksize, strides, padding, data_format)


def max_pool2d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    name: str | None = None,
) -> Tensor:
    """Largest element of each window over two spatial axes; see `max_pool`."""
    return _pool(_ops.max_pool, 2, input, ksize, strides, padding, data_format)


def max_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """Largest element of each window over three spatial axes; see `max_pool`."""
    return _pool(_ops.max_pool, 3, input, ksize, strides, padding, data_format)


def avg_pool(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """Mean of each window, without the padding; the arguments are those of `max_pool`."""
    return _pool(_ops.avg_pool, None, input, ksize, strides, padding, data_format)


def avg_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NWC",
    name: str | None = None,
) -> Tensor:
    """Mean of each window over one spatial axis; see `avg_pool`."""
    return _pool(_ops.avg_pool, 1, input, ksize, strides, padding, data_format)


def avg_pool2d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    name: str | None = None,
) -> Tensor:
    """Mean of each window over two spatial axes; see `avg_pool`."""
    return _pool(_ops.avg_pool, 2, input, ksize, strides, padding, data_format)


def avg_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """Mean of each window over three spatial axes; see `avg_pool`."""
    return _pool(_ops.avg_pool, 3, input, ksize, strides, padding, data_format)


def max_pool_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    output_dtype: Any = dtypes.int64,
    include_batch_in_index: bool = False,
    name: str | None = None,
) -> tuple[Tensor, Tensor]:
    """`max_pool2d`, and where in the flattened image (or batch of images) each result was found."""
    if data_format != "NHWC":
        raise ValueError("`data_format` must be 'NHWC' for `max_pool_with_argmax`")
    input = _value(input)
    largest = max_pool2d(input, ksize, strides, padding)
    places = _pool(_ops.max_pool_argmax, 2, input, ksize, strides, padding, data_format)
    if not include_batch_in_index:
        height, width, channels = input.shape[1:]
        places = _ops.floormod(places, height * width * channels)
    return largest, _ops.cast(places, dtype=dtypes.as_dtype(output_dtype))


# --- TensorFlow's ways to write a window ---


def _convolution(
    rank: int,
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str | None,
    dilations: Any,
) -> Tensor:
    input = _value(input)
    sliding = _sliding(rank, strides, padding, data_format, dilations)
    more = input.ndim - rank - 2
    if more <= 0:
        return _ops.convolution(input, filters, **sliding)
    # Several batch axes are one for the server.
    batch = tuple(input.shape[: more + 1])
    flat = _ops.reshape(input, shape=(-1, *input.shape[more + 1 :]))
    result = _ops.convolution(flat, filters, **sliding)
    return _ops.reshape(result, shape=(*batch, *result.shape[1:]))


def _pool(
    op: Any,
    rank: int | None,
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None,
) -> Tensor:
    input = _value(input)
    rank = input.ndim - 2 if rank is None else rank
    size = _per_axis(rank, ksize, "ksize", _is_first(data_format))
    return op(input, ksize=size, **_sliding(rank, strides, padding, data_format, None))


def _sliding(
    rank: int, strides: Any, padding: Any, data_format: str | None, dilations: Any
) -> dict[str, Any]:
    """The server's attributes for a window over `rank` spatial axes."""
    first = _is_first(data_format)
    attributes: dict[str, Any] = {
        "strides": _per_axis(rank, 1 if strides is None else strides, "strides", first),
        "dilations": _per_axis(rank, 1 if dilations is None else dilations, "dilations", first),
        "data_format": "channels_first" if first else "channels_last",
    }
    if isinstance(padding, str):
        attributes["padding"] = padding.upper()
        return attributes
    pairs = [_export.integers(pair) for pair in padding]
    outer = (pairs[:2], pairs[2:]) if first else ((pairs[0], pairs[-1]), pairs[1:-1])
    if len(pairs) != rank + 2 or any(pair != (0, 0) for pair in outer[0]):
        raise ValueError(
            "`padding` must have a pair of numbers for each axis, and zeros for batch and "
            f"channels, got {padding}"
        )
    attributes["padding"] = "EXPLICIT"
    attributes["explicit_paddings"] = [n for pair in outer[1] for n in pair]
    return attributes


def _per_axis(rank: int, values: Any, name: str, first: bool = False) -> tuple[int, ...]:
    """One number for each spatial axis: from one, one for each, or one for every axis."""
    numbers = _export.integers(values)
    if len(numbers) == rank + 2:
        outer, numbers = (
            (numbers[:2], numbers[2:]) if first else ((numbers[0], numbers[-1]), numbers[1:-1])
        )
        if tuple(outer) != (1, 1):
            raise ValueError(f"`{name}` must be 1 for batch and channels, got {values}")
    if len(numbers) == 1:
        numbers *= rank
    if len(numbers) != rank:
        raise ValueError(f"`{name}` must have 1, {rank} or {rank + 2} numbers, got {values}")
    return numbers


def _is_first(data_format: str | None) -> bool:
    return data_format is not None and data_format.startswith("NC")


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)
