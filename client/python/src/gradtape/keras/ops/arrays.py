"""Arrays arranged and taken apart, as NumPy and Keras name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape import _ops
from gradtape.keras.ops._lift import common, lift, shape_of, value

# === Arranged ===


def reshape(x: Any, newshape: Any) -> Any:
    """The same numbers in another shape."""
    return tf.reshape(value(x), shape_of(newshape))


def ravel(x: Any) -> Any:
    """The numbers one after the other."""
    return tf.reshape(value(x), (-1,))


def transpose(x: Any, axes: Any = None) -> Any:
    """Axes in another order; backwards by default."""
    x = value(x)
    return tf.transpose(x, tuple(range(x.ndim))[::-1] if axes is None else tuple(axes))


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes at other places, the rest in order."""
    x = value(x)
    sources, targets = (
        [axis % x.ndim for axis in shape_of(axes)] for axes in (source, destination)
    )
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return tf.transpose(x, order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Two axes in each other's place."""
    x = value(x)
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return tf.transpose(x, order)


def expand_dims(x: Any, axis: Any) -> Any:
    """New axes of extent 1."""
    x = value(x)
    places = shape_of(axis)
    rank = x.ndim + len(places)
    for place in sorted(each % rank for each in places):
        x = tf.expand_dims(x, place)
    return x


def squeeze(x: Any, axis: Any = None) -> Any:
    """Without axes of extent 1."""
    return tf.squeeze(value(x), axis=axis)


def broadcast_to(x: Any, shape: Any) -> Any:
    """Repeated along axes of extent 1."""
    return tf.broadcast_to(value(x), shape_of(shape))


def flip(x: Any, axis: Any = None) -> Any:
    """Backwards along axes."""
    x = value(x)
    return tf.reverse(x, list(range(x.ndim) if axis is None else shape_of(axis)))


def fliplr(x: Any) -> Any:
    """Backwards along the second axis."""
    return flip(x, 1)


def flipud(x: Any) -> Any:
    """Backwards along the first axis."""
    return flip(x, 0)


def rot90(array: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """A quarter turn of two axes, `k` times."""
    x = value(array)
    for _ in range(k % 4):
        x = flip(swapaxes(x, *axes), axes[0])
    return x


def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Moved along axes; what leaves at the end comes in again."""
    x = value(x)
    if axis is None:
        return tf.reshape(tf.roll(tf.reshape(x, (-1,)), shape_of(shift), (0,)), x.shape)
    return tf.roll(x, shape_of(shift), shape_of(axis))


def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """Tensors one after the other along an axis."""
    return tf.concat(common(*xs), axis=axis)


def stack(x: Sequence[Any], axis: int = 0) -> Any:
    """Tensors along a new axis."""
    return tf.stack(common(*x), axis=axis)


def unstack(x: Any, num: int | None = None, axis: int = 0) -> Any:
    """The tensors along an axis."""
    return tf.unstack(value(x), axis=axis)


def _at_least(x: Any, rank: int) -> Any:
    x = value(x)
    while x.ndim < rank:
        x = tf.expand_dims(x, 0 if x.ndim < 2 else -1)
    return x


def hstack(xs: Sequence[Any]) -> Any:
    """Tensors beside each other."""
    parts = [_at_least(x, 1) for x in xs]
    return concatenate(parts, axis=0 if parts[0].ndim == 1 else 1)


def vstack(xs: Sequence[Any]) -> Any:
    """Tensors below each other."""
    return concatenate([_at_least(x, 2) for x in xs], axis=0)


def dstack(xs: Sequence[Any]) -> Any:
    """Tensors behind each other."""
    return concatenate([_at_least(x, 3) for x in xs], axis=2)


def append(x1: Any, x2: Any, axis: int | None = None) -> Any:
    """One tensor after another."""
    if axis is None:
        return concatenate([ravel(x1), ravel(x2)])
    return concatenate([x1, x2], axis=axis)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Parts along an axis: so many of the same extent, or those between indices."""
    x = value(x)
    if isinstance(indices_or_sections, int):
        return tf.split(x, indices_or_sections, axis=axis)
    return _parts(x, list(indices_or_sections), axis)


def _parts(x: Any, bounds: list[int], axis: int) -> list[Any]:
    key: list[Any] = [np.s_[:]] * x.ndim
    found = []
    for start, stop in zip([0, *bounds], [*bounds, x.shape[axis]], strict=True):
        key[axis] = np.s_[start:stop]
        found.append(x[tuple(key)])
    return found


def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Parts along an axis, of which the first may be longer by one."""
    x = value(x)
    if not isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    each, longer = divmod(x.shape[axis], indices_or_sections)
    extents = [each + (i < longer) for i in range(indices_or_sections)]
    return _parts(x, np.cumsum(extents)[:-1].tolist(), axis)


def hsplit(x: Any, indices_or_sections: Any) -> Any:
    """Parts beside each other."""
    x = value(x)
    return split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


def vsplit(x: Any, indices_or_sections: Any) -> Any:
    """Parts below each other."""
    return split(x, indices_or_sections, 0)


def dsplit(x: Any, indices_or_sections: Any) -> Any:
    """Parts behind each other."""
    return split(x, indices_or_sections, 2)


def tile(x: Any, repeats: Any) -> Any:
    """All of it several times along axes."""
    x, times = value(x), shape_of(repeats)
    while x.ndim < len(times):
        x = tf.expand_dims(x, 0)
    return tf.tile(x, (*(1,) * (x.ndim - len(times)), *times))


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each part of an axis several times."""
    x = value(x)
    if axis is None:
        x, axis = ravel(x), 0
    rows = np.repeat(np.arange(x.shape[axis], dtype=np.int32), np.asarray(repeats))
    return tf.gather(x, rows, axis=axis)


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    """Longer at both ends of axes."""
    x = value(x)
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if mode in ("reflect", "symmetric"):
        flat = [number for width in widths for number in width]
        return _ops.mirror_pad(x, paddings=flat, mode=mode.upper())
    if mode != "constant":
        raise ValueError(f"`mode` must be 'constant', 'reflect' or 'symmetric', got {mode!r}")
    return tf.pad(x, widths, constant_values=0 if constant_values is None else constant_values)


# === Taken ===


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The parts of an axis that have these numbers."""
    x, numbers = value(x), value(indices)
    if axis is None:
        x, axis = ravel(x), 0
    extent = x.shape[axis]
    numbers = tf.cast(numbers, tf.int32)
    return tf.gather(x, tf.where(numbers < 0, numbers + extent, numbers), axis=axis)


def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Any:
    """For each place, the part of an axis that has its number."""
    x, numbers = value(x), tf.cast(value(indices), tf.int32)
    if axis is None:
        x, numbers, axis = ravel(x), ravel(numbers), 0
    numbers = tf.where(numbers < 0, numbers + x.shape[axis], numbers)
    return _ops.take_along_axis(x, numbers, axis=axis)


def get_item(x: Any, key: Any) -> Any:
    """What `x[key]` is."""
    return value(x)[key]


def slice(inputs: Any, start_indices: Any, shape: Any) -> Any:
    """A block of a tensor."""
    return tf.slice(value(inputs), shape_of(start_indices), shape_of(shape))


def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
    """A tensor with another block at a place."""
    x, block = common(inputs, updates)
    grids = np.meshgrid(
        *(s + np.arange(e) for s, e in zip(shape_of(start_indices), block.shape, strict=True)),
        indexing="ij",
    )
    places = np.stack(grids, axis=-1).astype(np.int32)
    return _ops.tensor_scatter_nd_update(x, tf.constant(places), block)


def scatter(indices: Any, values: Any, shape: Any) -> Any:
    """Numbers at places among zeros; several at one place are added."""
    return _ops.scatter_nd(tf.cast(value(indices), tf.int32), value(values), shape=shape_of(shape))


def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Any:
    """A tensor with other numbers at places.

    Args:
        inputs: The tensor.
        indices: The places, one for each row.
        updates: The numbers.
        reduction: None to replace, or "add", "max" or "min".
    """
    x, numbers = common(inputs, updates)
    kinds = {None: "update", "add": "add", "max": "max", "min": "min"}
    if reduction not in kinds:
        raise ValueError(f"`reduction` must be None, 'add', 'max' or 'min', got {reduction!r}")
    op = getattr(_ops, f"tensor_scatter_nd_{kinds[reduction]}")
    return op(x, tf.cast(value(indices), tf.int32), numbers)


def sort(x: Any, axis: int = -1) -> Any:
    """In order along an axis, the smallest first."""
    return _ops.sort(value(x), axis=axis)


def argsort(x: Any, axis: int | None = -1) -> Any:
    """The places of the numbers in order."""
    x = value(x)
    if axis is None:
        x, axis = ravel(x), 0
    return tf.cast(_ops.argsort(x, axis=axis), tf.int32)


def top_k(x: Any, k: int, sorted: bool = True) -> Any:
    """The largest numbers of each row, and their places."""
    x = value(x)
    places = tf.cast(_ops.top_k_indices(x, k=k), tf.int32)
    return _ops.take_along_axis(x, places, axis=-1), places


def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Any:
    """Places in an ordered sequence where numbers would be inserted."""
    bounds, x = common(sorted_sequence, values)
    flat = _ops.searchsorted(bounds, tf.reshape(x, (-1,)), right=side == "right")
    return tf.cast(tf.reshape(flat, x.shape), tf.int32)


def digitize(x: Any, bins: Any) -> Any:
    """The numbers of the intervals between bounds that numbers lie in."""
    return searchsorted(bins, x, side="right")


def diag(x: Any, k: int = 0) -> Any:
    """The matrix with a diagonal, or the diagonal of a matrix."""
    x = value(x)
    if x.ndim == 2:
        return diagonal(x, k)
    extent = x.shape[0] + abs(k)
    return _ops.diag(x, k=k, num_rows=extent, num_cols=extent)


def diagflat(x: Any, k: int = 0) -> Any:
    """The matrix with a diagonal of all numbers."""
    return diag(ravel(x), k)


def _on_diagonal(x: Any, offset: int, axis1: int, axis2: int) -> Any:
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    extent = max(min(rows - max(-offset, 0), columns - max(offset, 0)), 0)
    first = max(-offset, 0) * columns + max(offset, 0)
    places = first + np.arange(extent, dtype=np.int32) * (columns + 1)
    return tf.gather(tf.reshape(x, (*x.shape[:-2], rows * columns)), places, axis=-1)


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of two axes, as the last axis."""
    return _on_diagonal(value(x), offset, axis1, axis2)


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of a diagonal."""
    return tf.reduce_sum(_on_diagonal(value(x), offset, axis1, axis2), axis=-1)


def _triangle(x: Any, k: int, lower: bool) -> Any:
    x = value(x)
    rows, columns = x.shape[-2:]
    kept = np.tri(rows, columns, k if lower else k - 1, dtype=bool)
    return tf.where(kept if lower else ~kept, x, tf.zeros_like(x))


def tril(x: Any, k: int = 0) -> Any:
    """What is on and below a diagonal, and zeros above."""
    return _triangle(x, k, lower=True)


def triu(x: Any, k: int = 0) -> Any:
    """What is on and above a diagonal, and zeros below."""
    return _triangle(x, k, lower=False)


def unravel_index(indices: Any, shape: Any) -> Any:
    """Coordinates of places in a flat array."""
    rest, found = value(indices), []
    for extent in reversed(shape_of(shape)):
        found.append(tf.math.floormod(rest, extent))
        rest = tf.math.floordiv(rest, extent)
    return tuple(reversed(found))


def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether numbers are among others."""
    x, others = common(x1, x2)
    found = tf.reduce_any(tf.equal(tf.expand_dims(x, -1), ravel(others)), axis=-1)
    return tf.logical_not(found) if invert else found


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:  # noqa: N803
    """Powers of numbers, one row each."""
    x = value(x)
    count = x.shape[0] if N is None else N
    powers = np.arange(count) if increasing else np.arange(count)[::-1]
    return tf.pow(tf.expand_dims(x, -1), tf.constant(powers.copy(), x.dtype))


__all__ = lift(globals(), __name__)
