"""Layers that are noise while training and nothing otherwise."""

from __future__ import annotations

import math
from typing import Any

import gradtape as tf
from gradtape.keras.layers.base import Layer


class Dropout(Layer):
    """Sets a share of the inputs to zero while training, and scales up the rest.

    Args:
        rate: The share, from 0 to 1.
        noise_shape: Shape of the random choices, which broadcast; None stands for an extent of the
            inputs.
        seed: Seed of the choices.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(
                "Invalid value received for argument `rate`. Expected a float value between 0 "
                f"and 1. Received: rate={rate}"
            )
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the outputs."""
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return tf.zeros_like(inputs)
        return tf.nn.dropout(inputs, self.rate, self._noise_shape(inputs), self.seed)

    def _noise_shape(self, inputs: Any) -> Any:
        if self.noise_shape is None:
            return None
        pairs = zip(self.noise_shape, inputs.shape, strict=True)
        return [extent if given is None else given for given, extent in pairs]


class _SpatialDropout(Dropout):
    # Axes of the inputs that hold neither examples nor channels.
    _rank: int
    _arguments_of_keras: tuple[str, ...] = ("rate", "data_format", "seed", "name", "dtype")

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        ones = (1,) * self._rank
        shape = (None, None, *ones) if data_format == "channels_first" else (None, *ones, None)
        super().__init__(rate, shape, seed, name=name, dtype=dtype, **kwargs)
        self.data_format = data_format

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such a layer, as Keras has them."""
        config = super().get_config()
        return {name: config[name] for name in self._arguments_of_keras if name in config}


class SpatialDropout1D(_SpatialDropout):
    """Sets whole channels to zero while training; the inputs have one spatial axis."""

    _rank = 1

    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, None, seed, name, dtype, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Sets whole channels to zero while training; the inputs have two spatial axes."""

    _rank = 2


class SpatialDropout3D(_SpatialDropout):
    """Sets whole channels to zero while training; the inputs have three spatial axes."""

    _rank = 3


class GaussianNoise(Layer):
    """Adds normal noise while training.

    Args:
        stddev: Standard deviation of the noise.
        seed: Seed of the noise.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stddev, self.seed = stddev, seed

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the outputs."""
        if not training or self.stddev == 0:
            return inputs
        noise = tf.random.normal(inputs.shape, 0.0, self.stddev, inputs.dtype, self.seed)
        return inputs + noise


class GaussianDropout(Layer):
    """Multiplies with normal noise around 1 while training.

    Args:
        rate: The share that dropout with as much variance would set to zero.
        seed: Seed of the noise.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(f"Invalid value received for argument `rate`: {rate}")
        self.rate, self.seed = rate, seed

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the outputs."""
        if not training or self.rate == 0:
            return inputs
        stddev = math.sqrt(self.rate / (1.0 - self.rate))
        return inputs * tf.random.normal(inputs.shape, 1.0, stddev, inputs.dtype, self.seed)


class AlphaDropout(Layer):
    """Dropout that keeps mean and variance of what the activation `selu` makes.

    Args:
        rate: The share.
        noise_shape: Shape of the random choices, which broadcast.
        seed: Seed of the choices.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(f"Invalid value received for argument `rate`: {rate}")
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the outputs."""
        if not training or self.rate == 0:
            return inputs
        # What selu has far to the left, and the affine map that restores mean and variance.
        least = -1.6732632423543772 * 1.0507009873554805
        scale = ((1.0 - self.rate) * (1.0 + self.rate * least**2)) ** -0.5
        shape = inputs.shape if self.noise_shape is None else self.noise_shape
        kept = tf.random.uniform(shape, dtype=inputs.dtype, seed=self.seed) >= self.rate
        chosen = tf.where(kept, inputs, tf.ones_like(inputs) * least)
        return scale * chosen - scale * least * self.rate


class ActivityRegularization(Layer):
    """Returns its inputs, and adds a penalty of them to the loss.

    Args:
        l1: Factor of the sum of magnitudes.
        l2: Factor of the sum of squares.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        regularizer = tf.keras.regularizers.L1L2(l1, l2)
        super().__init__(activity_regularizer=regularizer, **kwargs)
