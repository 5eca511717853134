"""Convolutions of each channel by itself, with the weights, formulas and defaults of Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradtape as tf
from gradtape.keras.layers.convolutional import _Conv


class _Depthwise(_Conv):
    """Convolution of each channel by itself.

    Args:
        kernel_size: Extents of the kernel, or one number for all.
        strides: Steps of the kernel.
        padding: "valid" or "same".
        depth_multiplier: Number of outputs for each channel.
        data_format: "channels_last" or "channels_first".
        dilation_rate: Distances between the kernel's elements.
        activation: Name or function; none by default.
        use_bias: Whether to add a bias.
        depthwise_initializer: First values of the kernel.
        bias_initializer: First values of the bias.
        depthwise_regularizer: Penalty of the kernel.
        bias_regularizer: Penalty of the bias.
        activity_regularizer: Penalty of the outputs.
        depthwise_constraint: What the kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            None,  # type: ignore[arg-type]
            kernel_size, strides, padding, data_format, dilation_rate, 1, activation, use_bias,
            depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer,
            activity_regularizer, depthwise_constraint, bias_constraint, **kwargs,
        )  # fmt: skip
        self.depth_multiplier = depth_multiplier

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel and bias."""
        channels = input_shape[self._channel_axis]
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.kernel = self.add_kernel(shape, self._kernel_kind, "kernel")
        self._add_bias(channels * self.depth_multiplier)

    def _convolve(self, inputs: Any, padding: str) -> Any:
        return depthwise(self, inputs, self.kernel, padding)


class DepthwiseConv1D(_Depthwise):
    """Convolution of each channel along time by itself."""

    _rank = 1


class DepthwiseConv2D(_Depthwise):
    """Convolution of each channel of images by itself."""

    _rank = 2


class _Separable(_Conv):
    """Convolution of each channel by itself, and then of all of them in each point.

    Args:
        filters: Number of output channels.
        kernel_size: Extents of the kernel, or one number for all.
        strides: Steps of the kernel.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first".
        dilation_rate: Distances between the kernel's elements.
        depth_multiplier: Number of intermediate outputs for each channel.
        activation: Name or function; none by default.
        use_bias: Whether to add a bias.
        depthwise_initializer: First values of the first kernel.
        pointwise_initializer: First values of the second kernel.
        bias_initializer: First values of the bias.
        depthwise_regularizer: Penalty of the first kernel.
        pointwise_regularizer: Penalty of the second kernel.
        bias_regularizer: Penalty of the bias.
        activity_regularizer: Penalty of the outputs.
        depthwise_constraint: What the first kernel must be like after each step.
        pointwise_constraint: What the second kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation,
            use_bias, depthwise_initializer, bias_initializer, depthwise_regularizer,
            bias_regularizer, activity_regularizer, depthwise_constraint, bias_constraint, **kwargs,
        )  # fmt: skip
        self.depth_multiplier = depth_multiplier
        self._pointwise_kind = (
            pointwise_initializer, pointwise_regularizer, pointwise_constraint,
        )  # fmt: skip

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the kernels and the bias."""
        channels = input_shape[self._channel_axis]
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.depthwise_kernel = self.add_kernel(shape, self._kernel_kind, "depthwise_kernel")
        points = (*(1,) * self._rank, channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = self.add_kernel(points, self._pointwise_kind, "pointwise_kernel")
        self._add_bias(self.filters)

    def _convolve(self, inputs: Any, padding: str) -> Any:
        between = depthwise(self, inputs, self.depthwise_kernel, padding)
        return tf.nn.convolution(
            between, self.pointwise_kernel, padding="VALID", data_format=self._format()
        )


class SeparableConv1D(_Separable):
    """Convolution of each channel along time by itself, and then of all of them in each step."""

    _rank = 1


class SeparableConv2D(_Separable):
    """Convolution of each channel of images by itself, and then of all of them in each point."""

    _rank = 2


def depthwise(layer: _Conv, inputs: Any, kernel: Any, padding: str) -> Any:
    """Convolves each channel by itself, as a layer says: as many groups as there are channels."""
    *window, channels, multiplier = kernel.shape
    return tf.nn.convolution(
        inputs,
        tf.reshape(kernel, (*window, 1, channels * multiplier)),
        strides=layer.strides,
        padding=padding,
        data_format=layer._format(),
        dilations=layer.dilation_rate,
    )


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D

__all__ = [
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
]
