"""Normalisation layers, with the formulas and defaults of Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape._moments import layer_normalized
from gradtape.keras.layers.base import Layer


class _Scaled(Layer):
    """A layer that scales by `gamma` and shifts by `beta` after it normalised.

    Args:
        scale: Whether there is a gamma.
        center: Whether there is a beta.
        gamma_kind: Initializer, regularizer and constraint of gamma.
        beta_kind: Those of beta.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self, scale: bool, center: bool, gamma_kind: Any, beta_kind: Any, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.scale, self.center = scale, center
        self._gamma_kind, self._beta_kind = gamma_kind, beta_kind
        self.gamma: Any = None
        self.beta: Any = None

    def _add_gamma_and_beta(self, shape: Sequence[int]) -> None:
        if self.scale:
            self.gamma = self.add_kernel(shape, self._gamma_kind, "gamma")
        if self.center:
            self.beta = self.add_kernel(shape, self._beta_kind, "beta")

    def _scaled(self, x: Any, shape: Sequence[int] | None = None) -> Any:
        for weight, apply in ((self.gamma, tf.multiply), (self.beta, tf.add)):
            if weight is not None:
                weight = tf.cast(weight, x.dtype)
                x = apply(x, weight if shape is None else tf.reshape(weight, shape))
        return tf.cast(x, self.compute_dtype)


class BatchNormalization(_Scaled):
    """Normalises each channel by its mean and variance in the batch, or by moving ones.

    While training it uses the statistics of the batch and lets the moving ones follow; a layer that
    is not trainable uses the moving ones, as in Keras.

    Args:
        axis: The axis of the channels.
        momentum: Share of the moving statistics that is kept in each step.
        epsilon: What is added to the variance.
        center: Whether there is a beta.
        scale: Whether there is a gamma.
        beta_initializer: First values of beta.
        gamma_initializer: First values of gamma.
        moving_mean_initializer: First values of the moving mean.
        moving_variance_initializer: First values of the moving variance.
        beta_regularizer: Penalty of beta.
        gamma_regularizer: Penalty of gamma.
        beta_constraint: What beta must be like after each step.
        gamma_constraint: What gamma must be like after each step.
        synchronized: Ignored: there is one replica.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        gamma = (gamma_initializer, gamma_regularizer, gamma_constraint)
        beta = (beta_initializer, beta_regularizer, beta_constraint)
        super().__init__(scale, center, gamma, beta, **kwargs)
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self._moving_kinds = (moving_mean_initializer, moving_variance_initializer)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a layer of what `get_config` returned; there is no renormalisation here."""
        if config.get("renorm"):
            raise ValueError("Batch renormalisation (renorm=True) is not supported.")
        off = ("renorm", "renorm_clipping", "renorm_momentum")
        return super().from_config({k: v for k, v in config.items() if k not in off})

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes gamma, beta and the moving statistics."""
        shape = (input_shape[self.axis],)
        self._add_gamma_and_beta(shape)
        mean, variance = self._moving_kinds
        self.moving_mean, self.moving_variance = (
            self.add_weight(shape, kind, trainable=False, autocast=False, name=name)
            for name, kind in (("moving_mean", mean), ("moving_variance", variance))
        )

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """Computes the outputs."""
        inputs = self._widened(inputs)
        axis = self.axis % inputs.ndim
        shape = [-1 if i == axis else 1 for i in range(inputs.ndim)]
        if training and self.trainable:
            mean, variance = self._moments(inputs, axis, mask)
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                now = tf.stop_gradient(tf.reshape(now, (-1,)))
                moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        else:
            mean = tf.reshape(self.moving_mean, shape)
            variance = tf.reshape(self.moving_variance, shape)
        normal = (inputs - mean) * tf.math.rsqrt(variance + self.epsilon)
        return self._scaled(normal, None if axis == inputs.ndim - 1 else shape)

    @staticmethod
    def _moments(inputs: Any, axis: int, mask: Any) -> tuple[Any, Any]:
        others = [i for i in range(inputs.ndim) if i != axis]
        if mask is None:
            return tf.nn.moments(inputs, others, keepdims=True)
        counts = tf.expand_dims(tf.cast(mask, inputs.dtype), -1)
        total = tf.reduce_sum(counts * tf.ones_like(inputs), others, keepdims=True) + 1e-7
        mean = tf.reduce_sum(inputs * counts, others, keepdims=True) / total
        squares = tf.square(inputs - mean) * counts
        return mean, tf.reduce_sum(squares, others, keepdims=True) / total


class LayerNormalization(_Scaled):
    """Normalises each example along axes by its own mean and variance.

    Args:
        axis: The axis, or axes.
        epsilon: What is added to the variance.
        center: Whether there is a beta.
        scale: Whether there is a gamma.
        beta_initializer: First values of beta.
        gamma_initializer: First values of gamma.
        beta_regularizer: Penalty of beta.
        gamma_regularizer: Penalty of gamma.
        beta_constraint: What beta must be like after each step.
        gamma_constraint: What gamma must be like after each step.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        gamma = (gamma_initializer, gamma_regularizer, gamma_constraint)
        beta = (beta_initializer, beta_regularizer, beta_constraint)
        super().__init__(scale, center, gamma, beta, **kwargs)
        self.axis = [axis] if isinstance(axis, int) else list(axis)
        self.epsilon = epsilon

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes gamma and beta."""
        axes = sorted(axis % len(input_shape) for axis in self.axis)
        self._add_gamma_and_beta([input_shape[axis] for axis in axes])

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        x = self._widened(inputs)
        y = layer_normalized(x, self.gamma, self.beta, self.axis, self.epsilon)
        return tf.cast(y, self.compute_dtype)


class GroupNormalization(_Scaled):
    """Normalises groups of channels of each example by their mean and variance.

    Args:
        groups: The number of groups; -1 for one for each channel.
        axis: The axis of the channels.
        epsilon: What is added to the variance.
        center: Whether there is a beta.
        scale: Whether there is a gamma.
        beta_initializer: First values of beta.
        gamma_initializer: First values of gamma.
        beta_regularizer: Penalty of beta.
        gamma_regularizer: Penalty of gamma.
        beta_constraint: What beta must be like after each step.
        gamma_constraint: What gamma must be like after each step.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        gamma = (gamma_initializer, gamma_regularizer, gamma_constraint)
        beta = (beta_initializer, beta_regularizer, beta_constraint)
        super().__init__(scale, center, gamma, beta, **kwargs)
        self.groups, self.axis, self.epsilon = groups, axis, epsilon

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes gamma and beta."""
        channels = input_shape[self.axis]
        if self.groups == -1:
            self.groups = channels
        if channels % self.groups:
            raise ValueError(
                f"Number of groups ({self.groups}) must be a divisor of the number of channels "
                f"({channels})."
            )
        self._add_gamma_and_beta((channels,))

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        inputs = self._widened(inputs)
        shape = list(inputs.shape)
        axis = self.axis % len(shape)
        grouped = [*shape[:axis], self.groups, shape[axis] // self.groups, *shape[axis + 1 :]]
        x = tf.reshape(inputs, grouped)
        mean, variance = tf.nn.moments(
            x, [i for i in range(1, len(grouped)) if i != axis], keepdims=True
        )
        normal = tf.reshape((x - mean) * tf.math.rsqrt(variance + self.epsilon), shape)
        return self._scaled(normal, [-1 if i == axis else 1 for i in range(len(shape))])


class RMSNormalization(Layer):
    """Divides by the root of the mean of squares along an axis, and scales.

    Args:
        axis: The axis.
        epsilon: What is added to the mean of squares.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, axis: int = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis, self.epsilon = axis, epsilon

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the scale."""
        self.scale = self.add_weight((input_shape[self.axis],), "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        inputs = self._floating(inputs)
        axis = self.axis % inputs.ndim
        squares = tf.reduce_mean(tf.square(inputs), axis, keepdims=True)
        scale = tf.reshape(self.scale, [-1 if i == axis else 1 for i in range(inputs.ndim)])
        return inputs * tf.math.rsqrt(squares + self.epsilon) * scale


class UnitNormalization(Layer):
    """Makes vectors along an axis, or axes, one long.

    Args:
        axis: The axis, or axes.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return tf.math.l2_normalize(self._floating(inputs), axis=self.axis, epsilon=1e-12)


class Normalization(Layer):
    """Shifts and scales features to mean 0 and variance 1, as they were in data seen before.

    Args:
        axis: The axis, or axes, of the features; None for one mean of everything.
        mean: The mean, if `adapt` is not called.
        variance: The variance, if `adapt` is not called.
        invert: Whether to undo it instead.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise ValueError("`mean` and `variance` must be given together.")
        axes = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        self.axis, self.invert = axes, invert
        self.mean, self.variance = mean, variance
        # What the weights of a layer that learns from data hold, once they are there.
        self._adapted = mean is not None

    def build(self, input_shape: Any) -> None:
        """Makes mean, variance and count, if `adapt` or a file is to tell them."""
        if self.mean is not None:
            return
        rank = len(input_shape)
        self._kept = sorted(axis % rank for axis in self.axis)
        if 0 in self._kept:
            raise ValueError("The axis of the examples cannot be one of the features.")
        shape = [input_shape[axis] for axis in self._kept]
        self.adapt_mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
        self.adapt_variance = self.add_weight(shape, "ones", trainable=False, name="variance")
        self.count = self.add_weight((), "zeros", "int32", trainable=False, name="count")

    def adapt(self, data: Any) -> None:
        """Takes mean and variance from data: an array, or batches of a dataset."""
        if isinstance(data, tf.data.Dataset):
            data = np.concatenate([np.asarray(batch) for batch in data])
        array = np.asarray(data, np.float64)
        if not self.built:
            self.build((None, *array.shape[1:]))
        others = tuple(i for i in range(array.ndim) if i not in self._kept)
        self.adapt_mean.assign(array.mean(others).astype(np.float32))
        self.adapt_variance.assign(array.var(others).astype(np.float32))
        self._adapted = True

    def load_own_variables(self, store: Any) -> None:
        """Assigns mean, variance and count."""
        super().load_own_variables(store)
        self._adapted = True

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        if not self._adapted and inputs.shape[0]:
            raise ValueError("You must call `adapt()` before calling the layer, or give the mean.")
        inputs = self._floating(inputs)
        if self.mean is not None:
            mean = tf.constant(np.asarray(self.mean, np.float32), inputs.dtype)
            variance = tf.constant(np.asarray(self.variance, np.float32), inputs.dtype)
        else:
            shape = [inputs.shape[i] if i in self._kept else 1 for i in range(inputs.ndim)]
            mean = tf.reshape(self.adapt_mean, shape)
            variance = tf.reshape(self.adapt_variance, shape)
        deviation = tf.maximum(tf.sqrt(variance), 1e-7)
        if self.invert:
            return mean + inputs * deviation
        return (inputs - mean) / deviation
