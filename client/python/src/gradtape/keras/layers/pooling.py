"""Pools: the largest, or the mean, of windows or of all positions."""

from __future__ import annotations

from typing import Any

import gradtape as tf
from gradtape.keras.layers.base import Layer
from gradtape.keras.layers.convolutional import each_axis


class _Pool(Layer):
    """What pools over windows have in common.

    Args:
        pool_size: Extents of the window, or one number for all.
        strides: Steps of the window; its extents by default.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first".
        name: Name for people.
        **kwargs: Those of `Layer`.
    """

    _rank: int
    _kind: str

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.pool_size = each_axis(pool_size, self._rank, "pool_size")
        self.strides = each_axis(
            self.pool_size if strides is None else strides, self._rank, "strides"
        )
        if padding.lower() not in ("valid", "same"):
            raise ValueError(f"Invalid value for argument `padding`: {padding!r}")
        self.padding = padding.lower()
        self.data_format = data_format or "channels_last"

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        first = self.data_format == "channels_first"
        if first:
            inputs = tf.transpose(inputs, (0, *range(2, self._rank + 2), 1))
        pool = getattr(tf.nn, f"{self._kind}_pool{self._rank}d")
        outputs = pool(inputs, self.pool_size, self.strides, self.padding.upper())
        return (
            tf.transpose(outputs, (0, self._rank + 1, *range(1, self._rank + 1)))
            if first
            else (outputs)
        )


class MaxPooling1D(_Pool):
    """The largest of each window along time."""

    _rank, _kind = 1, "max"


class MaxPooling2D(_Pool):
    """The largest of each window of images."""

    _rank, _kind = 2, "max"


class MaxPooling3D(_Pool):
    """The largest of each window of volumes."""

    _rank, _kind = 3, "max"


class AveragePooling1D(_Pool):
    """The mean of each window along time."""

    _rank, _kind = 1, "avg"


class AveragePooling2D(_Pool):
    """The mean of each window of images."""

    _rank, _kind = 2, "avg"


class AveragePooling3D(_Pool):
    """The mean of each window of volumes."""

    _rank, _kind = 3, "avg"


class _GlobalPool(Layer):
    """What pools over all positions have in common.

    Args:
        data_format: "channels_last" or "channels_first".
        keepdims: Whether the spatial axes stay, with extent 1.
        **kwargs: Those of `Layer`.
    """

    _rank: int

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format, self.keepdims = data_format or "channels_last", keepdims
        first = 2 if self.data_format == "channels_first" else 1
        self._axes = tuple(range(first, first + self._rank))

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return self._reduce(inputs)

    def _reduce(self, inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")


class _GlobalMax(_GlobalPool):
    def _reduce(self, inputs: Any) -> Any:
        return tf.reduce_max(inputs, axis=self._axes, keepdims=self.keepdims)


class _GlobalAverage(_GlobalPool):
    def _reduce(self, inputs: Any) -> Any:
        return tf.reduce_mean(inputs, axis=self._axes, keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalMax):
    """The largest of all time steps."""

    _rank = 1


class GlobalMaxPooling2D(_GlobalMax):
    """The largest of all positions of images."""

    _rank = 2


class GlobalMaxPooling3D(_GlobalMax):
    """The largest of all positions of volumes."""

    _rank = 3


class GlobalAveragePooling1D(_GlobalAverage):
    """The mean of all time steps, or of those that count."""

    _rank = 1
    supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Computes the outputs."""
        if mask is None:
            return self._reduce(inputs)
        steps = self._axes[0]
        counts = tf.expand_dims(tf.cast(mask, inputs.dtype), 1 if steps == 2 else 2)
        total = tf.reduce_sum(inputs * counts, axis=steps, keepdims=self.keepdims)
        return total / tf.reduce_sum(counts, axis=steps, keepdims=self.keepdims)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns None: the axis of time is gone."""
        return None


class GlobalAveragePooling2D(_GlobalAverage):
    """The mean of all positions of images."""

    _rank = 2


class GlobalAveragePooling3D(_GlobalAverage):
    """The mean of all positions of volumes."""

    _rank = 3


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]
