"""Norms, and what is scaled by them (`tf.norm`, `tf.clip_by_norm`)."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

from gradtape import _export, _ops
from gradtape.indexed_slices import IndexedSlices
from gradtape.tensor import Tensor, Value, convert_to_tensor

_sum = _export.public(_ops.reduce_sum)
_max = _export.public(_ops.reduce_max)


def norm(
    tensor: Any,
    ord: str | float = "euclidean",
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
) -> Tensor:
    """Norm of vectors along an axis, of matrices over two axes, or of all elements.

    Args:
        tensor: The vectors or matrices.
        ord: For vectors "euclidean", or the p of a p-norm, infinity for the largest magnitude.
            For matrices "euclidean" or "fro", 1 for the largest sum of a column, infinity for that
            of a row.
        axis: The axis of the vectors, or the two of the matrices, rows first; by default all
            elements are one vector.
        keepdims: Whether the axes stay, with extent 1.
        name: Ignored.
    """
    keep = bool(keepdims)
    if axis is not None and not hasattr(axis, "__index__"):
        axes = _export.integers(axis)
        if len(axes) != 2:
            raise ValueError(
                f"'axis' must be None, an integer, or a tuple of 2 unique integers, got {axis}"
            )
        return _matrices(tensor, ord, axes, keep)
    return _vectors(tensor, ord, axis, keep)


def _vectors(tensor: Any, ord: str | float, axis: int | None, keep: bool) -> Tensor:
    if ord in ("euclidean", 2):
        return _ops.sqrt(_sum(_ops.square(tensor), axis, keep))
    magnitudes = _ops.abs(tensor)
    if ord == 1:
        return _sum(magnitudes, axis, keep)
    if ord == math.inf:
        return _max(magnitudes, axis, keep)
    if isinstance(ord, str) or ord <= 0:
        raise ValueError(f"'ord' must be a supported vector norm, got {ord!r}")
    return _ops.pow(_sum(_ops.pow(magnitudes, ord), axis, keep), 1.0 / ord)


def _matrices(tensor: Any, ord: str | float, axes: tuple[int, ...], keep: bool) -> Tensor:
    if ord in ("euclidean", "fro"):
        return _ops.sqrt(_sum(_ops.square(tensor), axes, keep))
    if ord not in (1, math.inf):
        raise ValueError(
            f"'ord' must be a supported matrix norm in ['euclidean', 'fro', 1, inf], got {ord}"
        )
    rows, columns = axes
    inner, outer = (rows, columns) if ord == 1 else (columns, rows)
    largest = _max(_sum(_ops.abs(tensor), inner, True), outer, True)
    return largest if keep else _ops.squeeze(largest, axis=axes)


def normalize(
    tensor: Any, ord: str | float = "euclidean", axis: Any = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """A tensor divided by its norm, and the norm, which keeps its axes; see `norm`."""
    found = norm(tensor, ord, axis, keepdims=True)
    return _ops.divide(tensor, found), found


def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Tensor:
    """Divides by the Euclidean norm along axes; a square of it below `epsilon` counts as that."""
    squares = _sum(_ops.square(x), dim if axis is None else axis, keepdims=True)
    return _ops.multiply(x, _ops.rsqrt(_ops.maximum(squares, epsilon)))


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Tensor | None:
    """The Euclidean norm of all elements of several tensors; None among them counts as nothing."""
    values = [_values(t) for t in t_list if t is not None]
    if not values:
        return None
    halves = [_ops.l2_loss(value) for value in values]
    return _ops.sqrt(_ops.multiply(_ops.add_n(halves), 2.0))


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """Scales a tensor down to a Euclidean norm, if its norm is larger.

    Args:
        t: A tensor or IndexedSlices.
        clip_norm: The largest norm.
        axes: Axes over which norms are taken; all of them by default.
        name: Ignored.
    """
    values = _values(t)
    squares = _sum(_ops.square(values), axes, True)
    positive = squares > 0
    # The root of 0 has no derivative.
    safe = _ops.where(positive, squares, _ops.ones_like(squares))
    lengths = _ops.where(positive, _ops.sqrt(safe), squares)
    return _like(t, _ops.multiply(values, clip_norm) / _ops.maximum(lengths, clip_norm))


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Tensor | None]:
    """Scales tensors down together, so that `global_norm` of them is at most `clip_norm`.

    Args:
        t_list: Tensors, IndexedSlices and Nones, which stay.
        clip_norm: The largest norm.
        use_norm: Their norm, if it was computed before.
        name: Ignored.

    Returns:
        The scaled tensors, and the norm that they had. If that is not finite, they become NaN.
    """
    found = global_norm(t_list) if use_norm is None else use_norm
    if found is None:
        return list(t_list), None
    found = found if isinstance(found, Value) else convert_to_tensor(found)
    scale = _ops.multiply(_ops.minimum(1.0 / found, 1.0 / clip_norm), clip_norm)
    # Infinite minus itself is NaN, and what is finite adds nothing.
    scale = scale + (found - found)
    clipped = [None if t is None else _like(t, _ops.multiply(_values(t), scale)) for t in t_list]
    return clipped, found


def _values(t: Any) -> Value:
    if isinstance(t, IndexedSlices):
        return t.values
    return t if isinstance(t, Value) else convert_to_tensor(t)


def _like(t: Any, values: builtins.object) -> Any:
    return (
        IndexedSlices(values, t.indices, t.dense_shape) if isinstance(t, IndexedSlices) else values
    )
