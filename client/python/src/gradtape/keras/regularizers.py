"""Penalties of weights and outputs, with the formulas of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradtape as tf
from gradtape.keras import _registry, serialization
from gradtape.keras._configured import Configured


class Regularizer(Configured):
    """Makes a penalty of a tensor."""

    def __call__(self, x: Any) -> Any:
        """Returns the penalty, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} does not say what the penalty is")


class L1L2(Regularizer):
    """The sum of magnitudes times `l1`, and of squares times `l2`."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = float(l1 or 0.0), float(l2 or 0.0)

    def __call__(self, x: Any) -> Any:
        """Returns the penalty, a scalar."""
        terms = []
        if self.l1:
            terms.append(tf.reduce_sum(tf.abs(x)) * self.l1)
        if self.l2:
            terms.append(tf.reduce_sum(tf.square(x)) * self.l2)
        return tf.add_n(terms) if terms else tf.zeros((), x.dtype)


class L1(L1L2):
    """The sum of magnitudes times `l1`."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)


class L2(L1L2):
    """The sum of squares times `l2`."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)


class OrthogonalRegularizer(Regularizer):
    """Pushes the rows, or columns, of a matrix to be orthogonal.

    Args:
        factor: Factor of the penalty.
        mode: "rows" or "columns".
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise ValueError(f"Invalid value for argument `mode`: {mode!r}")
        self.factor, self.mode = factor, mode

    def __call__(self, x: Any) -> Any:
        """Returns the penalty, a scalar."""
        rows = self.mode == "rows"
        unit = tf.math.l2_normalize(x, axis=1 if rows else 0)
        count = x.shape[0 if rows else 1]
        product = tf.matmul(unit, unit, transpose_a=not rows, transpose_b=rows)
        others = tf.abs(product * (1.0 - tf.eye(count, dtype=x.dtype)))
        return tf.reduce_sum(others) * (self.factor * 0.5 / (count * (count - 1.0) / 2.0))


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer
_BY_NAME = {"l1": L1, "l2": L2, "l1_l2": L1L2, "l1l2": L1L2, "orthogonal": OrthogonalRegularizer}


def get(identifier: str | Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Returns a regularizer by name; one or a function is returned as it is, and so is None."""
    return None if identifier is None else _registry.find("regularizer", _BY_NAME, identifier)


def serialize(regularizer: Regularizer) -> Any:
    """Returns a regularizer as plain data."""
    return serialization.serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Returns the regularizer of a name or of what `serialize` returned."""
    return _registry.deserialize(get, config, custom_objects)
