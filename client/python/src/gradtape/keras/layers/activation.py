"""Activations as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations
from gradtape.keras.layers.base import Layer


class Activation(Layer):
    """Applies an activation.

    Args:
        activation: Name or function.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return self.activation(inputs)


class ReLU(Layer):
    """Applies the rectifier.

    Args:
        max_value: Upper bound of the outputs, if there is one.
        negative_slope: Slope below the threshold.
        threshold: Where the rectifier starts.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_value is not None and max_value < 0.0:
            raise ValueError(f"max_value of a ReLU layer cannot be a negative value: {max_value}")
        self.max_value, self.negative_slope = max_value, negative_slope
        self.threshold = threshold

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Layer):
    """Applies the rectifier with a slope for negative inputs.

    Args:
        negative_slope: The slope.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_slope = negative_slope

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return activations.leaky_relu(inputs, self.negative_slope)


class PReLU(Layer):
    """Applies the rectifier with slopes for negative inputs that are learned.

    Args:
        alpha_initializer: First values of the slopes.
        alpha_regularizer: Penalty of the slopes.
        alpha_constraint: What the slopes must be like after each step.
        shared_axes: Axes along which a slope is shared.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._kind = (alpha_initializer, alpha_regularizer, alpha_constraint)
        self.shared_axes = () if shared_axes is None else tuple(shared_axes)

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the slopes."""
        axes = range(1, len(input_shape))
        shape = [1 if axis in self.shared_axes else input_shape[axis] for axis in axes]
        self.alpha = self.add_kernel(shape, self._kind, "alpha")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return tf.nn.relu(inputs) - self.alpha * tf.nn.relu(-inputs)


class ThresholdedReLU(Layer):
    """Passes on what is above a threshold, and 0 instead of the rest.

    Args:
        theta: The threshold.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, theta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if theta is None or theta < 0:
            raise ValueError(f"Theta of a ThresholdedReLU layer must be at least 0: {theta}")
        self.theta = float(theta)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return inputs * tf.cast(inputs > self.theta, inputs.dtype)


class ELU(Layer):
    """Applies the exponential linear unit.

    Args:
        alpha: Factor of the negative part.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return activations.elu(inputs, self.alpha)


class Softmax(Layer):
    """Applies softmax.

    Args:
        axis: The axis, or axes, whose elements become one distribution.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Computes the outputs; elements that `mask` excludes get no share."""
        if mask is not None:
            # Far enough below all others, and finite also where nothing is left.
            inputs = inputs + (1.0 - tf.cast(mask, inputs.dtype)) * -3e38
        if isinstance(self.axis, int):
            return tf.nn.softmax(inputs, axis=self.axis)
        return tf.exp(inputs - tf.reduce_logsumexp(inputs, axis=self.axis, keepdims=True))
