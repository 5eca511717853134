"""Layers that change images at random while training, each image in its own way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras import random
from gradtape.keras.layers.base import Layer
from gradtape.keras.layers.preprocessing import _Images, cropped_to_ratio

_FILL_MODES = ("reflect", "wrap", "constant", "nearest")


class _Random(_Images):
    """What the random layers have in common.

    Args:
        seed: Seed of the choices.
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(self, seed: Any = None, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.seed = seed
        self._generator: Any = None

    def call(self, inputs: Any, training: bool = True) -> Any:
        """Computes the outputs; images stay as they are when `training` is False."""
        if not training:
            return inputs
        return self._back(self._change(self._last(inputs)), inputs)

    def _change(self, images: Any) -> Any:
        """Returns a batch of images changed."""
        raise TypeError(f"{type(self).__name__} does not say what it does")

    def _draw(self, images: Any, low: float, high: float) -> Any:
        """Returns a number for each image, of shape [batch, 1, 1, 1]."""
        shape = (images.shape[0], 1, 1, 1)
        return random.uniform(shape, low, high, images.dtype, self._source())

    def _source(self) -> Any:
        # A number as the seed of each call would give all batches the same changes.
        if self._generator is None and isinstance(self.seed, int):
            self._generator = random.SeedGenerator(self.seed)
        return self._generator or self.seed


def _range(factor: Any, negative: bool = True) -> tuple[float, float]:
    """Returns the bounds that a factor stands for: its own two, or those around 0."""
    if isinstance(factor, (list, tuple)):
        low, high = factor
        if low > high:
            raise ValueError(f"The lower bound of a factor is above the upper one: {factor}")
        return float(low), float(high)
    return (-abs(float(factor)) if negative else 0.0), abs(float(factor))


class RandomFlip(_Random):
    """Mirrors images at random.

    Args:
        mode: "horizontal", "vertical" or "horizontal_and_vertical".
        seed: Seed of the choices.
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        if mode not in ("horizontal", "vertical", "horizontal_and_vertical"):
            raise ValueError(f"Invalid value for argument `mode`: {mode!r}")
        self.mode = mode

    def _change(self, images: Any) -> Any:
        for axis, name in ((2, "horizontal"), (1, "vertical")):
            if name in self.mode:
                flip = self._draw(images, 0.0, 1.0) < 0.5
                images = tf.where(flip, tf.reverse(images, [axis]), images)
        return images


class RandomContrast(_Random):
    """Moves pixels away from the mean of their channel or towards it, at random.

    Args:
        factor: How much at most, or how much less and how much more.
        value_range: Bounds of the pixels.
        seed: Seed of the choices.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self, factor: Any, value_range: Any = (0, 255), seed: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        self.factor = factor
        self.value_range = tuple(value_range)
        low, high = factor if isinstance(factor, (list, tuple)) else (factor, factor)
        self._bounds = (1.0 - float(low), 1.0 + float(high))

    def _change(self, images: Any) -> Any:
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        changed = (images - mean) * self._draw(images, *self._bounds) + mean
        return tf.clip_by_value(changed, *map(float, self.value_range))


class RandomBrightness(_Random):
    """Makes images brighter or darker at random.

    Args:
        factor: How much at most, as a share of the range; or the lowest and the highest.
        value_range: Bounds of the pixels.
        seed: Seed of the choices.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self, factor: Any, value_range: Any = (0, 255), seed: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        self.factor = factor
        self.value_range = tuple(value_range)

    def _change(self, images: Any) -> Any:
        low, high = map(float, self.value_range)
        delta = self._draw(images, *_range(self.factor)) * (high - low)
        return tf.clip_by_value(images + delta, low, high)


class RandomInvert(_Random):
    """Turns images into their negatives at random.

    Args:
        factor: How probable it is at most.
        value_range: Bounds of the pixels.
        seed: Seed of the choices.
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        factor: Any = 1.0,
        value_range: Any = (0, 255),
        seed: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.factor = factor
        self.value_range = tuple(value_range)

    def _change(self, images: Any) -> Any:
        chance = self._draw(images, *_range(self.factor, negative=False))
        invert = self._draw(images, 0.0, 1.0) <= chance
        low, high = map(float, self.value_range)
        return tf.where(invert, (low + high) - images, images)


class RandomGrayscale(_Random):
    """Takes the colours from images at random.

    Args:
        factor: How probable it is.
        data_format: "channels_last" or "channels_first".
        seed: Seed of the choices.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self, factor: float = 0.5, data_format: str | None = None, seed: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        if not 0 <= factor <= 1:
            raise ValueError(f"`factor` should be between 0 and 1. Received: factor={factor}")
        self.factor = factor

    def _change(self, images: Any) -> Any:
        gray = tf.broadcast_to(tf.image.rgb_to_grayscale(images), images.shape)
        return tf.where(self._draw(images, 0.0, 1.0) < self.factor, gray, images)


class RandomCrop(_Random):
    """Cuts a part out of images, at a random place, while training.

    Args:
        height: Height of the part.
        width: Width of the part.
        seed: Seed of the choices.
        data_format: "channels_last" or "channels_first".
        name: Name for people.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: Any = None,
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, name=name, **kwargs)
        self.height, self.width = height, width

    def call(self, inputs: Any, training: bool = True) -> Any:
        """Computes the outputs; smaller images are resized, and all are left when not training."""
        if not training:
            return inputs
        images = self._last(inputs)
        rows, columns = images.shape[1] - self.height, images.shape[2] - self.width
        if rows < 0 or columns < 0:
            images = cropped_to_ratio(images, self.height, self.width)
            images = tf.image.resize(images, (self.height, self.width))
            return self._back(images, inputs)
        # The same place for all images of a batch, as in Keras.
        places = [
            random.randint((), 0, limit + 1, seed=self._source()) for limit in (rows, columns)
        ]
        for axis, start, length in zip((1, 2), places, (self.height, self.width), strict=True):
            images = tf.gather(images, start + tf.range(length), axis=axis)
        return self._back(images, inputs)


class _Affine(_Random):
    """Layers that move pixels by an affine map.

    Args:
        fill_mode: What is outside images: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest".
        seed: Seed of the choices.
        fill_value: What is outside them in the mode "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        seed: Any,
        fill_value: float,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        if fill_mode not in _FILL_MODES:
            raise ValueError(f"Unknown `fill_mode` {fill_mode}. Expected of one {_FILL_MODES}.")
        if interpolation not in ("bilinear", "nearest"):
            raise ValueError(f"Unknown `interpolation` {interpolation}.")
        self.fill_mode, self.interpolation = fill_mode, interpolation
        self.fill_value = fill_value

    def _change(self, images: Any) -> Any:
        rows, columns = images.shape[1:3]
        y = tf.reshape(tf.range(rows, dtype=images.dtype), (1, rows, 1, 1))
        x = tf.reshape(tf.range(columns, dtype=images.dtype), (1, 1, columns, 1))
        y, x = self._source_of(images, y, x)
        shape = (images.shape[0], rows, columns, 1)
        return self._sampled(images, tf.broadcast_to(y, shape), tf.broadcast_to(x, shape))

    def _source_of(self, images: Any, y: Any, x: Any) -> tuple[Any, Any]:
        """Returns for pixels of the outputs where in the images they come from."""
        raise TypeError(f"{type(self).__name__} does not say how it moves pixels")

    def _sampled(self, images: Any, y: Any, x: Any) -> Any:
        y, x = self._inside(y, images.shape[1]), self._inside(x, images.shape[2])
        if self.interpolation == "nearest":
            return self._taken(images, tf.round(y), tf.round(x))
        top, left = tf.floor(y), tf.floor(x)
        below, right = y - top, x - left
        return (
            self._taken(images, top, left) * (1.0 - below) * (1.0 - right)
            + self._taken(images, top, left + 1.0) * (1.0 - below) * right
            + self._taken(images, top + 1.0, left) * below * (1.0 - right)
            + self._taken(images, top + 1.0, left + 1.0) * below * right
        )

    def _inside(self, at: Any, extent: int) -> Any:
        """Returns where coordinates outside the images lie within them."""
        if self.fill_mode == "constant":
            return at
        if self.fill_mode == "wrap":
            return tf.math.floormod(at, float(extent))
        if self.fill_mode == "reflect":
            at = tf.math.floormod(at, 2.0 * extent)
            at = tf.where(at >= float(extent), 2.0 * extent - 1.0 - at, at)
        return tf.clip_by_value(at, 0.0, extent - 1.0)

    def _taken(self, images: Any, y: Any, x: Any) -> Any:
        """Returns pixels at whole coordinates."""
        count, rows, columns, channels = images.shape
        within = tf.logical_and(
            tf.logical_and(y >= 0.0, y <= rows - 1.0), tf.logical_and(x >= 0.0, x <= columns - 1.0)
        )
        if self.fill_mode == "wrap":
            y, x = tf.math.floormod(y, float(rows)), tf.math.floormod(x, float(columns))
        row = tf.cast(tf.clip_by_value(y, 0.0, rows - 1.0), tf.int32)
        column = tf.cast(tf.clip_by_value(x, 0.0, columns - 1.0), tf.int32)
        first = np.arange(count, dtype=np.int32).reshape(count, 1, 1, 1) * (rows * columns)
        numbers = tf.reshape(row * columns + column + first, (-1,))
        flat = tf.reshape(images, (count * rows * columns, channels))
        taken = tf.reshape(tf.gather(flat, numbers), (*row.shape[:3], channels))
        if self.fill_mode != "constant":
            return taken
        return tf.where(within, taken, tf.ones_like(taken) * self.fill_value)


class RandomTranslation(_Affine):
    """Moves images at random.

    Args:
        height_factor: How far down at most, as a share of the height; or the least and the most.
        width_factor: How far to the right at most, as a share of the width.
        fill_mode: What is outside images: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest".
        seed: Seed of the choices.
        fill_value: What is outside them in the mode "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: Any = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor

    def _source_of(self, images: Any, y: Any, x: Any) -> tuple[Any, Any]:
        rows, columns = images.shape[1:3]
        down = self._draw(images, *_range(self.height_factor)) * float(rows)
        right = self._draw(images, *_range(self.width_factor)) * float(columns)
        return y - down, x - right


class RandomZoom(_Affine):
    """Zooms into images or out of them at random.

    Args:
        height_factor: By how much at most; negative numbers zoom in, positive ones out.
        width_factor: The same for the width; by default as for the height.
        fill_mode: What is outside images: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest".
        seed: Seed of the choices.
        fill_value: What is outside them in the mode "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: Any = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor

    def _source_of(self, images: Any, y: Any, x: Any) -> tuple[Any, Any]:
        rows, columns = images.shape[1:3]
        low, high = _range(self.height_factor)
        tall = self._draw(images, 1.0 + low, 1.0 + high)
        wide = tall
        if self.width_factor is not None:
            low, high = _range(self.width_factor)
            wide = self._draw(images, 1.0 + low, 1.0 + high)
        middle, centre = (rows - 1) / 2.0, (columns - 1) / 2.0
        return (y - middle) * tall + middle, (x - centre) * wide + centre


class RandomRotation(_Affine):
    """Rotates images at random.

    Args:
        factor: By which part of a full turn at most; or the least and the most.
        fill_mode: What is outside images: "reflect", "wrap", "constant" or "nearest".
        interpolation: "bilinear" or "nearest".
        seed: Seed of the choices.
        fill_value: What is outside them in the mode "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: Any = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = factor

    def _source_of(self, images: Any, y: Any, x: Any) -> tuple[Any, Any]:
        low, high = _range(self.factor)
        angle = self._draw(images, low, high) * (2.0 * math.pi)
        middle, centre = (images.shape[1] - 1) / 2.0, (images.shape[2] - 1) / 2.0
        y, x = y - middle, x - centre
        sine, cosine = tf.sin(angle), tf.cos(angle)
        return x * sine + y * cosine + middle, x * cosine - y * sine + centre


class Pipeline(Layer):
    """Layers one after the other, such as those of this module.

    Args:
        layers: The layers.
        name: Name for people.
    """

    def __init__(self, layers: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        self._pipeline_layers = list(layers)

    @property
    def layers(self) -> list[Any]:
        """The layers."""
        return self._pipeline_layers

    def call(self, inputs: Any, training: bool = True) -> Any:
        """Computes the outputs."""
        for layer in self._pipeline_layers:
            inputs = layer(inputs, training=training)
        return inputs


__all__ = [
    "Pipeline",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomGrayscale",
    "RandomInvert",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
]
