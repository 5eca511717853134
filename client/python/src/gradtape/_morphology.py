"""Windows with maxima in place of sums (`tf.nn.dilation2d`); gradients of convolutions."""

from __future__ import annotations

import itertools
from typing import Any

from gradtape import _export, _ops, dtypes
from gradtape._blocks import pad_for_windows, window_cells
from gradtape._windows import _sliding, _value
from gradtape.tensor import Tensor


def dilation2d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: str,
    data_format: str,
    dilations: Any,
    name: str | None = None,
) -> Tensor:
    """Grayscale dilation: the maximum over each window of image plus filter.

    Args:
        input: Tensor of shape [batch, height, width, channels].
        filters: Tensor of shape [height, width, channels].
        strides: Steps of the window, [1, down, across, 1].
        padding: "VALID" or "SAME".
        data_format: "NHWC".
        dilations: Distances between cells of the window, [1, down, across, 1].
        name: Ignored.
    """
    if data_format != "NHWC":
        raise ValueError("Data formats other than NHWC are not yet supported")
    input, filters = _value(input), _value(filters)
    steps, rates = _export.integers(strides)[1:3], _export.integers(dilations)[1:3]
    extents = tuple(filters.shape[:2])
    sizes = [(n - 1) * rate + 1 for n, rate in zip(extents, rates, strict=True)]
    # Cells outside of the image must never be the largest.
    lowest = float(input.dtype.min) if input.dtype is dtypes.float64 else -3.0e38
    input, counts = pad_for_windows(input, sizes, steps, padding, lowest)
    largest = None
    for row, column in itertools.product(*map(range, extents)):
        cells = window_cells(input, (row * rates[0], column * rates[1]), steps, counts)
        each = cells + filters[row, column]
        largest = each if largest is None else _ops.maximum(largest, each)
    return largest  # type: ignore[return-value]


def erosion2d(
    value: Any,
    filters: Any,
    strides: Any,
    padding: str,
    data_format: str,
    dilations: Any,
    name: str | None = None,
) -> Tensor:
    """Grayscale erosion: the minimum over each window of image minus the filter turned around."""
    turned = _ops.reverse(filters, axis=(0, 1))
    negative = _ops.negative(value)
    return _ops.negative(dilation2d(negative, turned, strides, padding, data_format, dilations))


# === Gradients of convolutions ===


def conv2d_backprop_input_v2(
    input: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: str,
    use_cudnn_on_gpu: bool = True,
    explicit_paddings: Any = (),
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `conv2d` with respect to its input.

    Args:
        input: The input: of it, only the shape is read.
        filter: The filters.
        out_backprop: The gradient with respect to the result.
        strides: As for `conv2d`, like all that follow.
        padding: "VALID", "SAME" or "EXPLICIT".
        use_cudnn_on_gpu: Ignored.
        explicit_paddings: For "EXPLICIT" the padding before and after each axis, in pairs.
        data_format: "NHWC" or "NCHW".
        dilations: Distances between cells of a window.
        name: Ignored.
    """
    window = _sliding(2, strides, _pairs(padding, explicit_paddings), data_format, dilations)
    shape = tuple(_value(input).shape)
    return _ops.convolution_input_gradient(filter, out_backprop, shape=shape, **window)


def conv2d_backprop_filter_v2(
    input: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: str,
    use_cudnn_on_gpu: bool = True,
    explicit_paddings: Any = (),
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `conv2d` with respect to its filters, of which only the shape is read.

    Args:
        input: The input.
        filter: The filters: of them, only the shape is read.
        out_backprop: The gradient with respect to the result.
        strides: As for `conv2d`, like all that follow.
        padding: "VALID", "SAME" or "EXPLICIT".
        use_cudnn_on_gpu: Ignored.
        explicit_paddings: For "EXPLICIT" the padding before and after each axis, in pairs.
        data_format: "NHWC" or "NCHW".
        dilations: Distances between cells of a window.
        name: Ignored.
    """
    window = _sliding(2, strides, _pairs(padding, explicit_paddings), data_format, dilations)
    shape = tuple(_value(filter).shape)
    return _ops.convolution_filter_gradient(input, out_backprop, shape=shape, **window)


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `depthwise_conv2d` with respect to its input, whose shape is `input_sizes`."""
    filter = _value(filter)
    height, width, channels, multiplier = filter.shape
    grouped = _ops.reshape(filter, shape=(height, width, 1, channels * multiplier))
    window = _sliding(2, strides, padding, data_format, dilations)
    shape = _export.integers(input_sizes)
    return _ops.convolution_input_gradient(grouped, out_backprop, shape=shape, **window)


def depthwise_conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Tensor:
    """Gradient of `depthwise_conv2d` with respect to its filter, whose shape is `filter_sizes`."""
    height, width, channels, multiplier = _export.integers(filter_sizes)
    window = _sliding(2, strides, padding, data_format, dilations)
    grouped = (height, width, 1, channels * multiplier)
    gradient = _ops.convolution_filter_gradient(input, out_backprop, shape=grouped, **window)
    return _ops.reshape(gradient, shape=(height, width, channels, multiplier))


def _pairs(padding: str, explicit: Any) -> Any:
    if padding != "EXPLICIT":
        return padding
    numbers = _export.integers(explicit)
    return list(zip(numbers[::2], numbers[1::2], strict=True))
