"""Products of vectors and matrices, as NumPy and Keras name them."""

from __future__ import annotations

from typing import Any

import gradtape as tf
from gradtape.keras.ops import arrays
from gradtape.keras.ops._lift import common, floating, lift, value


def matmul(x1: Any, x2: Any) -> Any:
    """Product of matrices; a vector is a row before and a column after."""
    x1, x2 = common(x1, x2)
    if x1.ndim == 1 and x2.ndim == 1:
        return tf.reduce_sum(x1 * x2)
    if x1.ndim == 1:
        return tf.squeeze(tf.matmul(tf.expand_dims(x1, 0), x2), -2)
    if x2.ndim == 1:
        return tf.squeeze(tf.matmul(x1, tf.expand_dims(x2, -1)), -1)
    return tf.matmul(x1, x2)


def dot(x1: Any, x2: Any) -> Any:
    """Sum of products along the last axis of one and the last but one of the other."""
    x1, x2 = common(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return x1 * x2
    return tf.tensordot(x1, x2, [[-1 % x1.ndim], [max(x2.ndim - 2, 0)]])


def inner(x1: Any, x2: Any) -> Any:
    """Sum of products along both last axes."""
    x1, x2 = common(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return x1 * x2
    return tf.tensordot(x1, x2, [[x1.ndim - 1], [x2.ndim - 1]])


def outer(x1: Any, x2: Any) -> Any:
    """All products of two vectors."""
    x1, x2 = common(x1, x2)
    return tf.reshape(x1, (-1, 1)) * tf.reshape(x2, (1, -1))


def vdot(x1: Any, x2: Any) -> Any:
    """Sum of all products."""
    x1, x2 = common(x1, x2)
    return tf.reduce_sum(tf.reshape(x1, (-1,)) * tf.reshape(x2, (-1,)))


def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """Sum of products along several axes."""
    x1, x2 = common(x1, x2)
    return tf.tensordot(x1, x2, axes)


def einsum(subscripts: str, *operands: Any, **kwargs: Any) -> Any:
    """Einstein's sum."""
    return tf.einsum(subscripts, *common(*operands))


def kron(x1: Any, x2: Any) -> Any:
    """Kronecker's product of matrices."""
    x1, x2 = common(x1, x2)
    rank = max(x1.ndim, x2.ndim)
    x1, x2 = (tf.reshape(x, (*(1,) * (rank - x.ndim), *x.shape)) for x in (x1, x2))
    wide = [extent for pair in zip(x1.shape, (1,) * rank, strict=True) for extent in pair]
    narrow = [extent for pair in zip((1,) * rank, x2.shape, strict=True) for extent in pair]
    both = tf.reshape(x1, wide) * tf.reshape(x2, narrow)
    return tf.reshape(both, [a * b for a, b in zip(x1.shape, x2.shape, strict=True)])


def cross(
    x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    """Cross product of vectors of three numbers."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = common(x1, x2)
    a, b = (arrays.moveaxis(x, k, 0) for x, k in ((x1, axisa), (x2, axisb)))
    if a.shape[0] != 3 or b.shape[0] != 3:
        raise ValueError("Vectors of a cross product have three numbers here.")
    parts = [a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return arrays.moveaxis(tf.stack(parts), 0, axisc)


def cdist(x: Any, y: Any) -> Any:
    """Distances of all rows of one matrix to all of another."""
    x, y = (floating(each) for each in common(x, y))
    difference = tf.expand_dims(x, -2) - tf.expand_dims(y, -3)
    return tf.sqrt(tf.reduce_sum(tf.square(difference), axis=-1))


def corrcoef(x: Any) -> Any:
    """Correlations of rows."""
    x = floating(x)
    x = x if x.ndim > 1 else tf.expand_dims(x, 0)
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    covariance = tf.matmul(centred, centred, transpose_b=True)
    spread = tf.sqrt(arrays.diagonal(covariance))
    found = covariance / (tf.expand_dims(spread, -1) * tf.expand_dims(spread, -2))
    return tf.squeeze(found) if value(x).shape[0] == 1 else found


__all__ = lift(globals(), __name__)
