"""Layers that arrange their inputs anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gradtape as tf
from gradtape.keras.layers.base import Layer


class Flatten(Layer):
    """Joins all axes but the first.

    Args:
        data_format: "channels_last", or "channels_first": the channels then go last first.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        if self.data_format == "channels_first" and inputs.ndim > 1:
            inputs = tf.transpose(inputs, [0, *range(2, inputs.ndim), 1])
        return tf.reshape(inputs, (-1, math.prod(inputs.shape[1:])))


class Reshape(Layer):
    """Gives each example another shape.

    Args:
        target_shape: The shape, of which one extent may be -1.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        shape = list(self.target_shape)
        if -1 in shape:
            others = -math.prod(shape)
            shape[shape.index(-1)] = math.prod(inputs.shape[1:]) // max(others, 1)
        return tf.reshape(inputs, (inputs.shape[0], *shape))


class Permute(Layer):
    """Permutes the axes of each example, which are counted from 1.

    Args:
        dims: For each axis of the outputs, that of the inputs.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                "Invalid permutation argument `dims` for Permute Layer. The set of indices in "
                f"`dims` must be consecutive and start from 1. Received dims={dims}"
            )

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return tf.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """Repeats a vector along a new axis of time.

    Args:
        n: How often.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = n

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return tf.tile(tf.expand_dims(inputs, 1), (1, self.n, 1))


class _Spatial(Layer):
    """A layer that has pairs of numbers, or numbers, for each of its spatial axes."""

    _rank: int

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"
        # The first spatial axis of the inputs.
        self._first = 2 if self.data_format == "channels_first" else 1

    def _pairs(self, given: Any) -> list[tuple[int, int]]:
        """Returns a pair for each axis: of one number, of one for each axis, of pairs."""
        if isinstance(given, int):
            return [(given, given)] * self._rank
        if self._rank == 1 and all(isinstance(item, int) for item in given) and len(given) == 2:
            return [(given[0], given[1])]
        if len(given) != self._rank:
            raise ValueError(f"Expected {self._rank} entries, got {given}")
        return [(item, item) if isinstance(item, int) else (item[0], item[1]) for item in given]


class _ZeroPadding(_Spatial):
    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.padding = self._pairs(padding)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        amounts = [(0, 0)] * inputs.ndim
        amounts[self._first : self._first + self._rank] = self.padding
        return tf.pad(inputs, amounts)


class ZeroPadding1D(_ZeroPadding):
    """Surrounds the time steps with zeros."""

    _rank = 1


class ZeroPadding2D(_ZeroPadding):
    """Surrounds images with zeros."""

    _rank = 2


class ZeroPadding3D(_ZeroPadding):
    """Surrounds volumes with zeros."""

    _rank = 3


class _Cropping(_Spatial):
    def __init__(self, cropping: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.cropping = self._pairs(cropping)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        keys = [slice(None)] * self._first
        keys += [slice(before, -after or None) for before, after in self.cropping]
        return inputs[tuple(keys)]


class Cropping1D(_Cropping):
    """Cuts off time steps."""

    _rank = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, **kwargs)


class Cropping2D(_Cropping):
    """Cuts off the margins of images."""

    _rank = 2

    def __init__(
        self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    """Cuts off the margins of volumes."""

    _rank = 3

    def __init__(
        self,
        cropping: Any = ((1, 1), (1, 1), (1, 1)),
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(cropping, data_format, **kwargs)


class _UpSampling(_Spatial):
    def __init__(self, size: Any = 2, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.size = (size,) * self._rank if isinstance(size, int) else tuple(size)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        # Each element becomes a row of equals: an axis of its own, which is then joined.
        shape = list(inputs.shape)
        between, repeated, joined = list(shape), list(shape), list(shape)
        for i, times in reversed(list(enumerate(self.size, self._first))):
            between.insert(i + 1, 1)
            repeated.insert(i + 1, times)
            joined[i] *= times
        return tf.reshape(tf.broadcast_to(tf.reshape(inputs, between), repeated), joined)


class UpSampling1D(_UpSampling):
    """Repeats each time step."""

    _rank = 1

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(size, **kwargs)


class UpSampling2D(_UpSampling):
    """Makes images larger.

    Args:
        size: Factor of both extents, or one for each.
        data_format: "channels_last" or "channels_first".
        interpolation: "nearest", which repeats elements, or "bilinear".
        **kwargs: Those of `Layer`.
    """

    _rank = 2

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(size, data_format, **kwargs)
        if interpolation not in ("nearest", "bilinear", "bicubic"):
            raise ValueError(f"Invalid value for argument `interpolation`: {interpolation!r}")
        self.interpolation = interpolation

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        if self.interpolation == "nearest":
            return super().call(inputs)
        first = self.data_format == "channels_first"
        images = tf.transpose(inputs, (0, 2, 3, 1)) if first else inputs
        extents = [images.shape[1] * self.size[0], images.shape[2] * self.size[1]]
        larger = tf.image.resize(images, extents, method=self.interpolation)
        return tf.transpose(larger, (0, 3, 1, 2)) if first else larger


class UpSampling3D(_UpSampling):
    """Repeats each element of volumes along the three axes."""

    _rank = 3


class Rescaling(Layer):
    """Computes `inputs * scale + offset`.

    Args:
        scale: Factor.
        offset: Summand.
        **kwargs: Those of `Layer`.
    """

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return self._floating(inputs) * self.scale + self.offset


__all__ = [
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Flatten",
    "Permute",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]
