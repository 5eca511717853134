"""What weights must be like after each step of an optimizer, with the formulas of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradtape as tf
from gradtape.keras import _registry, serialization
from gradtape.keras._configured import Configured

# Keeps divisions by norms finite, as in Keras.
_EPSILON = 1e-7


class Constraint(Configured):
    """Maps a weight to what it should be instead."""

    def __call__(self, w: Any) -> Any:
        """Returns the new value."""
        return w


def _norm(w: Any, axis: Any) -> Any:
    return tf.sqrt(tf.reduce_sum(tf.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """Shrinks vectors along `axis` that are longer than `max_value`."""

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Any) -> Any:
        """Returns the new value."""
        norm = _norm(w, self.axis)
        return w * (tf.clip_by_value(norm, 0.0, float(self.max_value)) / (norm + _EPSILON))


class NonNeg(Constraint):
    """Replaces negative elements by 0."""

    def __call__(self, w: Any) -> Any:
        """Returns the new value."""
        return w * tf.cast(w >= 0.0, w.dtype)


class UnitNorm(Constraint):
    """Makes vectors along `axis` one long."""

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """Returns the new value."""
        return w / (_norm(w, self.axis) + _EPSILON)


class MinMaxNorm(Constraint):
    """Keeps the lengths of vectors along `axis` between two bounds.

    Args:
        min_value: The lower bound.
        max_value: The upper bound.
        rate: Share of the way to the bounds that a step goes.
        axis: Axis, or axes, of the vectors.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ) -> None:
        self.min_value, self.max_value = min_value, max_value
        self.rate, self.axis = rate, axis

    def __call__(self, w: Any) -> Any:
        """Returns the new value."""
        norm = _norm(w, self.axis)
        inside = tf.clip_by_value(norm, float(self.min_value), float(self.max_value))
        return w * ((self.rate * inside + (1.0 - self.rate) * norm) / (norm + _EPSILON))


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm
_BY_NAME = {
    "max_norm": MaxNorm,
    "non_neg": NonNeg,
    "unit_norm": UnitNorm,
    "min_max_norm": MinMaxNorm,
}


def get(identifier: str | Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Returns a constraint by name; one or a function is returned as it is, and so is None."""
    return None if identifier is None else _registry.find("constraint", _BY_NAME, identifier)


def serialize(constraint: Constraint) -> Any:
    """Returns a constraint as plain data."""
    return serialization.serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Returns the constraint of a name or of what `serialize` returned."""
    return _registry.deserialize(get, config, custom_objects)
