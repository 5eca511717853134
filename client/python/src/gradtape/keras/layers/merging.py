"""Layers that join several inputs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import gradtape as tf
from gradtape.keras.layers.base import Layer


class _Merge(Layer):
    """Joins inputs elementwise; they broadcast."""

    supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Checks that there are several inputs."""
        if not isinstance(input_shape, list) or not input_shape:
            raise ValueError(
                f"A {type(self).__name__} layer should be called on a list of inputs. "
                f"Received: input_shape={input_shape}"
            )

    def call(self, inputs: Sequence[Any]) -> Any:
        """Computes the outputs."""
        return self._merge(list(inputs))

    def _merge(self, inputs: list[Any]) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not say how to join its inputs")

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns where all inputs count."""
        if previous_mask is None:
            return None
        given = [mask for mask in previous_mask if mask is not None]
        return functools.reduce(tf.logical_and, given)


class Add(_Merge):
    """Sum of the inputs."""

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(tf.add, inputs)


class Subtract(_Merge):
    """Difference of two inputs."""

    def build(self, input_shape: Any) -> None:
        """Checks that there are two inputs."""
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ValueError(
                "A `Subtract` layer should be called on exactly 2 inputs. "
                f"Received: input_shape={input_shape}"
            )

    def _merge(self, inputs: list[Any]) -> Any:
        return inputs[0] - inputs[1]


class Multiply(_Merge):
    """Product of the inputs."""

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(tf.multiply, inputs)


class Average(_Merge):
    """Mean of the inputs."""

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(tf.add, inputs) / len(inputs)


class Maximum(_Merge):
    """Elementwise maximum of the inputs."""

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(tf.maximum, inputs)


class Minimum(_Merge):
    """Elementwise minimum of the inputs."""

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(tf.minimum, inputs)


class Concatenate(_Merge):
    """Joins the inputs along an axis.

    Args:
        axis: The axis.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def _merge(self, inputs: list[Any]) -> Any:
        return tf.concat(inputs, axis=self.axis)


class Dot(_Merge):
    """Sum of products along one axis of each of two inputs, for each example.

    Args:
        axes: The axis of both, or a pair of axes.
        normalize: Whether vectors along the axes are made one long first.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes = (axes, axes) if isinstance(axes, int) else tuple(axes)
        self.normalize = normalize

    def _merge(self, inputs: list[Any]) -> Any:
        x, y = inputs
        first, second = self.axes[0] % x.ndim, self.axes[1] % y.ndim
        if self.normalize:
            x, y = tf.math.l2_normalize(x, axis=first), tf.math.l2_normalize(y, axis=second)
        extent = x.shape[first]
        rows = [x.shape[axis] for axis in range(1, x.ndim) if axis != first]
        columns = [y.shape[axis] for axis in range(1, y.ndim) if axis != second]
        left = tf.reshape(_axis_last(x, first), (-1, _product(rows), extent))
        right = tf.reshape(_axis_last(y, second), (-1, _product(columns), extent))
        products = tf.matmul(left, right, transpose_b=True)
        return tf.reshape(products, (-1, *(rows + columns or [1])))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns None: the axes of the masks are gone."""
        return None


def _axis_last(x: Any, axis: int) -> Any:
    return tf.transpose(x, [i for i in range(x.ndim) if i != axis] + [axis])


def _product(extents: list[int]) -> int:
    return functools.reduce(lambda a, b: a * b, extents, 1)


def add(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Sum of the inputs."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Difference of two inputs."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Product of the inputs."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Mean of the inputs."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Elementwise maximum of the inputs."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Elementwise minimum of the inputs."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """Joins the inputs along an axis."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Sequence[Any], axes: Any = -1, **kwargs: Any) -> Any:
    """Sum of products along one axis of each of two inputs, for each example."""
    return Dot(axes=axes, **kwargs)(inputs)


__all__ = [
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]
