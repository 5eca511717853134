"""Layers that prepare numbers and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.layers.base import Layer


def encoded(numbers: Any, mode: str, depth: int, dtype: Any, weights: Any = None) -> Any:
    """Returns category numbers as they are, or what they say about each category.

    Args:
        numbers: The category numbers.
        mode: "int", "one_hot", "multi_hot" or "count".
        depth: How many categories there are.
        dtype: Element type of the result.
        weights: What each number counts, if the mode is "count".
    """
    if mode == "int":
        return tf.cast(numbers, dtype)
    if numbers.ndim == 0:
        numbers = tf.expand_dims(numbers, -1)
    if mode == "one_hot":
        if numbers.ndim > 1 and numbers.shape[-1] == 1:
            numbers = tf.squeeze(numbers, -1)
        return tf.one_hot(numbers, depth, dtype=dtype)
    rows = tf.one_hot(numbers, depth, dtype=dtype)
    axis = 1 if numbers.ndim > 1 else 0
    if mode == "multi_hot":
        return tf.reduce_max(rows, axis=axis)
    if weights is not None:
        rows = rows * tf.expand_dims(tf.cast(weights, dtype), -1)
    return tf.reduce_sum(rows, axis=axis)


def _check(mode: str, modes: Sequence[str], sparse: bool) -> None:
    if mode not in modes:
        raise ValueError(f"Unknown arg for output_mode: {mode}. Expected one of {modes}")
    if sparse:
        raise ValueError("`sparse=True`: there are no sparse tensors.")


class CategoryEncoding(Layer):
    """Says for each category whether, or how often, it is among the inputs.

    Args:
        num_tokens: How many categories there are; their numbers start at 0.
        output_mode: "multi_hot", "one_hot" or "count".
        sparse: Must be False.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(output_mode, ("count", "one_hot", "multi_hot"), sparse)
        if num_tokens is None or num_tokens < 1:
            raise ValueError(f"`num_tokens` must be set and at least 1. Received: {num_tokens}.")
        self.num_tokens, self.output_mode = num_tokens, output_mode

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        """Computes the outputs; `count_weights` says what each input counts."""
        if count_weights is not None and self.output_mode != "count":
            raise ValueError("`count_weights` is not used when `output_mode` is not `'count'`.")
        numbers = inputs if inputs.dtype.is_integer else tf.cast(inputs, tf.int32)
        return encoded(
            numbers, self.output_mode, self.num_tokens, self.compute_dtype, count_weights
        )


class Discretization(Layer):
    """Replaces numbers by those of the intervals that they lie in.

    Args:
        bin_boundaries: Where one interval ends and the next begins.
        num_bins: How many intervals `adapt` is to make.
        epsilon: How exactly it counts, as a share of the data.
        output_mode: "int", "one_hot", "multi_hot" or "count".
        sparse: Must be False.
        dtype: Element type of the outputs; int64 for the mode "int" by default.
        name: Name for people.
    """

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        if dtype is None:
            dtype = "int64" if output_mode == "int" else tf.keras.backend.floatx()
        super().__init__(name=name, autocast=False)
        _check(output_mode, ("int", "one_hot", "multi_hot", "count"), sparse)
        if (num_bins is None) == (bin_boundaries is None) and num_bins is not None:
            raise ValueError("Both `num_bins` and `bin_boundaries` should not be set.")
        self.output_dtype = tf.as_dtype(dtype)
        self.bin_boundaries = None if bin_boundaries is None else list(bin_boundaries)
        self.num_bins, self.epsilon, self.output_mode = num_bins, epsilon, output_mode

    def adapt(self, data: Any) -> None:
        """Makes intervals with about the same number of examples each."""
        if self.num_bins is None:
            raise ValueError("Cannot adapt a Discretization layer that has fixed boundaries.")
        batches = data if isinstance(data, tf.data.Dataset) else [data]
        values = np.concatenate([np.asarray(batch, np.float64).reshape(-1) for batch in batches])
        shares = np.arange(1, self.num_bins) / self.num_bins
        self.bin_boundaries = np.quantile(values, shares).tolist()

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such a layer, with what it was adapted to."""
        return {
            "bin_boundaries": self.bin_boundaries,
            "num_bins": None if self.bin_boundaries is not None else self.num_bins,
            "epsilon": self.epsilon,
            "output_mode": self.output_mode,
            "sparse": False,
            "name": self.name,
            "dtype": self.output_dtype.name,
        }

    @classmethod
    def from_config(cls, config: Any) -> Any:
        """Makes a layer of what `get_config` returned."""
        # Keras writes both for a layer that was adapted.
        known = config.get("bin_boundaries") is not None
        return cls(**config | ({"num_bins": None} if known else {}))

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        if self.bin_boundaries is None:
            raise ValueError("Give `bin_boundaries`, or call `adapt()` first.")
        inputs = tf.cast(inputs, tf.float32)
        bounds = tf.constant(self.bin_boundaries, tf.float32)
        flat = tf.searchsorted(bounds, tf.reshape(inputs, (-1,)), right=True)
        numbers = tf.reshape(flat, inputs.shape)
        return encoded(numbers, self.output_mode, len(self.bin_boundaries) + 1, self.output_dtype)


class _Images(Layer):
    """What layers of images have in common: they may be one or a batch, channels last or first.

    Args:
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"

    def _last(self, images: Any) -> Any:
        """Returns images as a batch of floats with channels last."""
        images = self._floating(images)
        if images.ndim not in (3, 4):
            raise ValueError(f"Images have 3 or 4 axes, got shape {tuple(images.shape)}")
        batch = images if images.ndim == 4 else tf.expand_dims(images, 0)
        return tf.transpose(batch, (0, 2, 3, 1)) if self.data_format == "channels_first" else batch

    def _back(self, batch: Any, images: Any) -> Any:
        """Arranges a batch as the images were."""
        if self.data_format == "channels_first":
            batch = tf.transpose(batch, (0, 3, 1, 2))
        return batch if images.ndim == 4 else tf.squeeze(batch, 0)


def cropped_to_ratio(images: Any, height: int, width: int) -> Any:
    """Returns the largest central part of images with the ratio of a size."""
    rows, columns = images.shape[1:3]
    most_rows = min(rows, int(columns * height / width))
    most_columns = min(columns, int(rows * width / height))
    top, left = int((rows - most_rows) / 2), int((columns - most_columns) / 2)
    return images[:, top : top + most_rows, left : left + most_columns]


class Resizing(_Images):
    """Resizes images.

    Args:
        height: Their new height.
        width: Their new width.
        interpolation: "bilinear", "nearest" or "bicubic".
        crop_to_aspect_ratio: Whether to cut what is too long instead of distorting.
        pad_to_aspect_ratio: Whether to pad what is too short instead of distorting.
        fill_mode: Must be "constant".
        fill_value: What is padded with.
        antialias: Must be False.
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        if interpolation not in ("bilinear", "nearest", "bicubic"):
            raise ValueError(f"There is no interpolation {interpolation!r} here.")
        if antialias or fill_mode != "constant":
            raise ValueError("Images are resized without antialiasing, and padded by a constant.")
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ValueError("Only one of `crop_to_aspect_ratio` and `pad_to_aspect_ratio`.")
        self.height, self.width, self.interpolation = height, width, interpolation
        self.crop_to_aspect_ratio = crop_to_aspect_ratio
        self.pad_to_aspect_ratio, self.fill_value = pad_to_aspect_ratio, fill_value

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        images = self._last(inputs)
        if self.crop_to_aspect_ratio:
            images = cropped_to_ratio(images, self.height, self.width)
        if self.pad_to_aspect_ratio:
            images = self._padded(images)
        images = tf.image.resize(images, (self.height, self.width), method=self.interpolation)
        return self._back(images, inputs)

    def _padded(self, images: Any) -> Any:
        rows, columns = images.shape[1:3]
        more_rows = max(rows, int(columns * self.height / self.width)) - rows
        more_columns = max(columns, int(rows * self.width / self.height)) - columns
        pads = [(0, 0), (more_rows // 2,) * 2, (more_columns // 2,) * 2, (0, 0)]
        return tf.pad(images, pads, constant_values=self.fill_value)


class CenterCrop(_Images):
    """Cuts the middle out of images; smaller ones are resized first.

    Args:
        height: Height of the middle.
        width: Width of the middle.
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self, height: int, width: int, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.height, self.width = height, width

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        images = self._last(inputs)
        rows, columns = images.shape[1] - self.height, images.shape[2] - self.width
        if rows < 0 or columns < 0:
            images = cropped_to_ratio(images, self.height, self.width)
            images = tf.image.resize(images, (self.height, self.width))
        else:
            top, left = rows // 2, columns // 2
            images = images[:, top : top + self.height, left : left + self.width]
        return self._back(images, inputs)
