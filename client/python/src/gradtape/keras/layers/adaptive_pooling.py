"""Pools whose windows are as large as the size of the outputs demands."""

from __future__ import annotations

from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.layers.base import Layer


def windows(extent: int, count: int) -> list[tuple[int, int]]:
    """Returns where windows begin and end that divide an axis as evenly as may be."""
    return [(i * extent // count, -(-(i + 1) * extent // count)) for i in range(count)]


def adaptive_pool(inputs: Any, sizes: Any, kind: str, data_format: str) -> Any:
    """Returns the mean or the largest of each window.

    Args:
        inputs: Tensor with axes for the batch, the channels, and one or more between.
        sizes: Extents of the outputs; None leaves an axis as it is.
        kind: "avg" or "max".
        data_format: "channels_last" or "channels_first".
    """
    first = 2 if data_format == "channels_first" else 1
    for axis, size in enumerate(sizes, first):
        extent = inputs.shape[axis]
        if size is None or size == extent:
            continue
        parts = windows(extent, size)
        # Windows one after the other differ in length by one at most: the last element of shorter
        # ones counts twice, which changes no maximum, and has no weight in the mean.
        longest = max(end - start for start, end in parts)
        rows = np.array([[min(s + k, e - 1) for k in range(longest)] for s, e in parts])
        shape = (*inputs.shape[:axis], size, longest, *inputs.shape[axis + 1 :])
        taken = tf.reshape(tf.gather(inputs, rows.reshape(-1).astype(np.int32), axis=axis), shape)
        if kind == "max":
            inputs = tf.reduce_max(taken, axis=axis + 1)
            continue
        weights = np.array([[float(s + k < e) / (e - s) for k in range(longest)] for s, e in parts])
        form = [1] * len(shape)
        form[axis], form[axis + 1] = size, longest
        factors = tf.constant(weights.reshape(form).astype(np.float32), inputs.dtype)
        inputs = tf.reduce_sum(taken * factors, axis=axis + 1)
    return inputs


class _Adaptive(Layer):
    """What these pools have in common.

    Args:
        output_size: Extents of the outputs, or one number for all.
        data_format: "channels_last" or "channels_first".
        **kwargs: Those of `Layer`.
    """

    _rank: int
    _kind: str

    def __init__(self, output_size: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        one = output_size is None or isinstance(output_size, int)
        self.output_size = (output_size,) * self._rank if one else tuple(output_size)
        if len(self.output_size) != self._rank:
            raise ValueError(f"`output_size` must have {self._rank} extents, got {output_size}")
        self.data_format = data_format or "channels_last"

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return adaptive_pool(self._floating(inputs), self.output_size, self._kind, self.data_format)


class AdaptiveAveragePooling1D(_Adaptive):
    """The means of so many windows along time."""

    _rank, _kind = 1, "avg"


class AdaptiveAveragePooling2D(_Adaptive):
    """The means of so many windows of images."""

    _rank, _kind = 2, "avg"


class AdaptiveAveragePooling3D(_Adaptive):
    """The means of so many windows of volumes."""

    _rank, _kind = 3, "avg"


class AdaptiveMaxPooling1D(_Adaptive):
    """The largest of so many windows along time."""

    _rank, _kind = 1, "max"


class AdaptiveMaxPooling2D(_Adaptive):
    """The largest of so many windows of images."""

    _rank, _kind = 2, "max"


class AdaptiveMaxPooling3D(_Adaptive):
    """The largest of so many windows of volumes."""

    _rank, _kind = 3, "max"


__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
]
