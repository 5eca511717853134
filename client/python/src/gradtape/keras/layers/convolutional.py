"""Convolutions, with the weights, formulas and defaults of Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations
from gradtape.keras.layers.base import Layer


def each_axis(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """Returns one number for each spatial axis."""
    numbers = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(numbers) != rank or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise ValueError(f"The `{name}` argument must be a tuple of {rank} integers, got {value}")
    return numbers


class _Conv(Layer):
    """What convolutions of any rank have in common.

    Args:
        filters: Number of output channels.
        kernel_size: Extents of the kernel, or one number for all.
        strides: Steps of the kernel.
        padding: "valid", "same", or in one dimension "causal".
        data_format: "channels_last" or "channels_first".
        dilation_rate: Distances between the kernel's elements.
        groups: Number of groups of channels that are convolved apart.
        activation: Name or function; none by default.
        use_bias: Whether to add a bias.
        kernel_initializer: First values of the kernel.
        bias_initializer: First values of the bias.
        kernel_regularizer: Penalty of the kernel.
        bias_regularizer: Penalty of the bias.
        activity_regularizer: Penalty of the outputs.
        kernel_constraint: What the kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        **kwargs: Those of `Layer`.
    """

    # Number of spatial axes.
    _rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if filters is not None and filters <= 0:
            raise ValueError(f"Invalid value for argument `filters`: {filters}")
        self.filters, self.groups = filters, groups
        self.kernel_size = each_axis(kernel_size, self._rank, "kernel_size")
        self.strides = each_axis(strides, self._rank, "strides")
        self.dilation_rate = each_axis(dilation_rate, self._rank, "dilation_rate")
        self.padding = padding.lower()
        if self.padding not in ("valid", "same", *(["causal"] if self._rank == 1 else [])):
            raise ValueError(f"Invalid value for argument `padding`: {padding!r}")
        self.data_format = data_format or "channels_last"
        self._channel_axis = 1 if self.data_format == "channels_first" else -1
        self.activation: Callable[..., Any] = activations.get(activation)
        self.use_bias = use_bias
        self._kernel_kind = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self._bias_kind = (bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel and bias."""
        channels = input_shape[self._channel_axis]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"The number of input channels ({channels}) and of filters ({self.filters}) must "
                f"be divisible by the number of groups ({self.groups})."
            )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self.add_kernel(shape, self._kernel_kind, "kernel")
        self._add_bias(self.filters)

    def _add_bias(self, channels: int) -> None:
        self.bias = None
        if self.use_bias:
            self.bias = self.add_kernel((channels,), self._bias_kind, "bias")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        inputs = self._floating(inputs)
        padding = self.padding
        if padding == "causal":
            inputs, padding = self._padded_before(inputs), "valid"
        return self._finish(self._convolve(inputs, padding.upper()))

    def _padded_before(self, inputs: Any) -> Any:
        before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        amounts = [(0, 0)] * 3
        amounts[2 if self._channel_axis == 1 else 1] = (before, 0)
        return tf.pad(inputs, amounts)

    def _convolve(self, inputs: Any, padding: str) -> Any:
        return tf.nn.convolution(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=padding,
            data_format=self._format(),
            dilations=self.dilation_rate,
        )

    def _format(self) -> str:
        spatial = "DHW"[3 - self._rank :]
        return f"NC{spatial}" if self._channel_axis == 1 else f"N{spatial}C"

    def _finish(self, outputs: Any) -> Any:
        if self.bias is not None:
            bias = self.bias
            if self._channel_axis == 1:
                bias = tf.reshape(bias, (-1, *(1,) * self._rank))
            outputs = outputs + bias
        return self.activation(outputs)


class Conv1D(_Conv):
    """Convolution along time, of inputs of shape [batch, time, channels]."""

    _rank = 1


class Conv2D(_Conv):
    """Convolution of images of shape [batch, height, width, channels]."""

    _rank = 2


class Conv3D(_Conv):
    """Convolution of volumes of shape [batch, depth, height, width, channels]."""

    _rank = 3


class _ConvTranspose(_Conv):
    """The transpose of a convolution, which makes its inputs larger by the strides.

    Args:
        filters: Number of output channels.
        kernel_size: Extents of the kernel, or one number for all.
        strides: Steps of the kernel.
        padding: "valid" or "same".
        output_padding: What the outputs are longer by than they would be.
        data_format: "channels_last" or "channels_first".
        dilation_rate: Distances between the kernel's elements.
        activation: Name or function; none by default.
        use_bias: Whether to add a bias.
        kernel_initializer: First values of the kernel.
        bias_initializer: First values of the bias.
        kernel_regularizer: Penalty of the kernel.
        bias_regularizer: Penalty of the bias.
        activity_regularizer: Penalty of the outputs.
        kernel_constraint: What the kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation,
            use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            activity_regularizer, kernel_constraint, bias_constraint, **kwargs,
        )  # fmt: skip
        self.output_padding = output_padding
        if output_padding is not None:
            self.output_padding = each_axis(output_padding, self._rank, "output_padding")

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel and bias."""
        shape = (*self.kernel_size, self.filters, input_shape[self._channel_axis])
        self.kernel = self.add_kernel(shape, self._kernel_kind, "kernel")
        self._add_bias(self.filters)

    def _convolve(self, inputs: Any, padding: str) -> Any:
        first = 2 if self._channel_axis == 1 else 1
        spatial = [
            self._length(extent, axis)
            for axis, extent in enumerate(inputs.shape[first : first + self._rank])
        ]
        channels_first = self._channel_axis == 1
        inner = [self.filters, *spatial] if channels_first else [*spatial, self.filters]
        return tf.nn.conv_transpose(
            inputs,
            self.kernel,
            [inputs.shape[0], *inner],
            self.strides,
            padding=padding,
            data_format=self._format(),
            dilations=self.dilation_rate,
        )

    def _length(self, extent: int, axis: int) -> int:
        """Returns the extent of the outputs along an axis."""
        stride = self.strides[axis]
        kernel = self.kernel_size[axis] + (self.kernel_size[axis] - 1) * (
            self.dilation_rate[axis] - 1
        )
        if self.output_padding is not None:
            pad = kernel // 2 if self.padding == "same" else 0
            return (extent - 1) * stride + kernel - 2 * pad + int(self.output_padding[axis])
        if self.padding == "same":
            return extent * stride
        return extent * stride + max(kernel - stride, 0)


class Conv1DTranspose(_ConvTranspose):
    """The transpose of a convolution along time."""

    _rank = 1


class Conv2DTranspose(_ConvTranspose):
    """The transpose of a convolution of images."""

    _rank = 2


class Conv3DTranspose(_ConvTranspose):
    """The transpose of a convolution of volumes. It has two arguments in another order."""

    _rank = 3

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: Any = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters, kernel_size, strides, padding, output_padding, data_format, dilation_rate,
            activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer,
            bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, **kwargs,
        )  # fmt: skip


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
]
