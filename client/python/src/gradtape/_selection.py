"""Picks, orders, repeats and scatters slices of tensors, with TensorFlow's signatures.

Where the shape of a result depends on elements (`unique`, `boolean_mask`, `where` of one argument),
the elements are fetched: these functions wait for the server. What they pick is picked there, so
gradients flow through `boolean_mask` as they do in TensorFlow.
"""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

import numpy as np

from gradtape import _ops, dtypes
from gradtape._export import integers
from gradtape.tensor import Tensor, Value, cast, constant, convert, convert_to_tensor


class Unique(NamedTuple):
    """What `tf.unique` returns."""

    y: Tensor
    idx: Tensor


class UniqueWithCounts(NamedTuple):
    """What `tf.unique_with_counts` returns."""

    y: Tensor
    idx: Tensor
    count: Tensor


# === Picking ===


def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: int | None = None,
    batch_dims: int = 0,
    name: str | None = None,
) -> Tensor:
    """Picks slices of `params` along an axis by their numbers.

    Args:
        params: The tensor.
        indices: Numbers of slices, of any shape.
        validate_indices: Ignored.
        axis: The axis; by default the first one behind the batch axes.
        batch_dims: How many leading axes `params` and `indices` share.
        name: Ignored.
    """
    params, indices = _value(params), _value(indices)
    if batch_dims < 0:
        batch_dims += indices.ndim
    axis = batch_dims if axis is None else int(axis)
    if axis < 0:
        # Only along the first axis the gradient is sparse, so which axis it is must be said.
        axis += params.ndim
    return _ops.gather(params, indices, axis=axis, batch_dims=batch_dims)


def gather_nd(
    params: Any,
    indices: Any,
    batch_dims: int = 0,
    name: str | None = None,
    bad_indices_policy: str = "",
) -> Tensor:
    """Picks elements or slices by tuples of positions, which the last axis of `indices` holds.

    Args:
        params: The tensor.
        indices: The tuples.
        batch_dims: How many leading axes `params` and `indices` share.
        name: Ignored.
        bad_indices_policy: "", "DEFAULT" or "ERROR": a position outside is an error.
    """
    _check_policy(bad_indices_policy)
    return _ops.gather_nd(params, indices, batch_dims=batch_dims)


def scatter_nd(
    indices: Any, updates: Any, shape: Any, bad_indices_policy: str = "", name: str | None = None
) -> Tensor:
    """Adds slices into zeros of a shape, where tuples of positions say."""
    _check_policy(bad_indices_policy)
    return _ops.scatter_nd(indices, updates, shape=integers(shape))


def _check_policy(policy: str) -> None:
    if policy not in ("", "DEFAULT", "ERROR"):
        raise ValueError(f"`bad_indices_policy` must be empty, 'DEFAULT' or 'ERROR', got {policy}")


def boolean_mask(
    tensor: Any, mask: Any, axis: int | None = None, name: str = "boolean_mask"
) -> Tensor:
    """Keeps the slices whose mask is true. The mask is fetched, since it decides the shape.

    Args:
        tensor: The tensor.
        mask: Truth values, of the shape of some neighbouring axes of `tensor`.
        axis: The first of these axes, 0 by default.
        name: Ignored.
    """
    tensor, kept = _value(tensor), np.asarray(mask, np.bool_)
    first = 0 if axis is None else int(axis) % tensor.ndim
    if not kept.ndim:
        raise ValueError("mask cannot be scalar.")
    shape = tuple(tensor.shape)
    if shape[first : first + kept.ndim] != kept.shape:
        raise ValueError(f"Shapes {shape[first : first + kept.ndim]} and {kept.shape} differ.")
    flat = _ops.reshape(tensor, shape=(*shape[:first], kept.size, *shape[first + kept.ndim :]))
    return _ops.gather(flat, constant(np.flatnonzero(kept)), axis=first)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Chooses elements of `x` where the condition holds, else of `y`; all three broadcast.

    Args:
        condition: Truth values. Without `x` and `y` they are fetched, or numbers, of which those
            that are not zero count as true.
        x: A tensor or a number.
        y: A tensor or a number.
        name: Ignored.

    Returns:
        The elements; without `x` and `y` the positions of true elements, a row of int64 for each.
    """
    if x is None and y is None:
        return constant(np.argwhere(np.asarray(_value(condition))))
    if x is None or y is None:
        raise ValueError("x and y must both be non-None or both be None.")
    condition = _value(condition)
    # The condition's dtype must not decide what numbers become.
    if isinstance(x, Value):
        y = convert(y, x._dtype)
    elif isinstance(y, Value):
        x = convert(x, y._dtype)
    else:
        x = convert_to_tensor(x)
        y = convert_to_tensor(y, dtype_hint=x._dtype)
    return _ops.where(condition, x, y)


def unique(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Unique:
    """The elements of a vector without repetitions, as they first come, and which each one is."""
    found = unique_with_counts(x, out_idx)
    return Unique(found.y, found.idx)


def unique_with_counts(
    x: Any, out_idx: Any = dtypes.int32, name: str | None = None
) -> UniqueWithCounts:
    """What `unique` returns, and how often each of them comes."""
    elements = np.asarray(_value(x))
    if elements.ndim != 1:
        raise ValueError(f"unique expects a 1D vector, got shape {elements.shape}")
    values, first, inverse, counts = np.unique(elements, True, True, True)
    order = np.argsort(first)  # NumPy sorts by the values.
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return UniqueWithCounts(
        constant(values[order]),
        constant(rank[inverse.reshape(-1)].astype(np.int64), out_idx),
        constant(counts[order].astype(np.int64), out_idx),
    )


# === Order ===


def sort(
    values: Any, axis: int = -1, direction: str = "ASCENDING", name: str | None = None
) -> Tensor:
    """Sorts along an axis; the direction is "ASCENDING" or "DESCENDING"."""
    return _ops.sort(values, axis=axis, descending=_descends(direction))


def argsort(
    values: Any,
    axis: int = -1,
    direction: str = "ASCENDING",
    stable: bool = False,
    name: str | None = None,
) -> Tensor:
    """Positions of the elements in sorted order.

    Args:
        values: The elements.
        axis: The axis.
        direction: "ASCENDING" or "DESCENDING".
        stable: Ignored: equal elements keep their order in any case.
        name: Ignored.
    """
    places = _ops.argsort(values, axis=axis, descending=_descends(direction))
    return cast(places, dtypes.int32)


def _descends(direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f"direction should be one of ASCENDING, DESCENDING, got {direction!r}")
    return direction == "DESCENDING"


def searchsorted(
    sorted_sequence: Any,
    values: Any,
    side: str = "left",
    out_type: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """Places in sorted rows where values would be inserted, before ("left") or behind equals."""
    if side not in ("left", "right"):
        raise ValueError(f"side must be either 'right' or 'left'. Saw: {side}.")
    sorted_sequence = _value(sorted_sequence)
    places = _ops.searchsorted(
        sorted_sequence, convert(values, sorted_sequence.dtype), right=side == "right"
    )
    return cast(places, out_type)


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """Turns a tensor around along axes."""
    return _ops.reverse(tensor, axis=integers(axis))


def reverse_sequence(
    input: Any,
    seq_lengths: Any,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Turns the first elements of each sequence around, as many as its length says.

    Args:
        input: The sequences.
        seq_lengths: One length for each position of the batch axis.
        seq_axis: The axis along which sequences run.
        batch_axis: The axis of the batch, 0 by default.
        name: Ignored.
    """
    if seq_axis is None:
        raise TypeError("tf.reverse_sequence needs `seq_axis`")
    return _ops.reverse_sequence(input, seq_lengths, seq_axis=seq_axis, batch_axis=batch_axis or 0)


def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Tensor:
    """Moves elements along axes; what leaves at one end comes in at the other."""
    return _ops.roll(input, shift=integers(shift), axis=integers(axis))


# === Repeating ===


def repeat(input: Any, repeats: Any, axis: int | None = None, name: str | None = None) -> Tensor:
    """Repeats each slice along an axis; `repeats`, if it is a tensor, is fetched.

    Args:
        input: The tensor.
        repeats: How often: a number, or one for each slice.
        axis: The axis; without one, the tensor is made flat first.
        name: Ignored.
    """
    input = _value(input)
    if axis is None:
        input, axis = _ops.reshape(input, shape=(-1,)), 0
    if not input.ndim:
        input = _ops.reshape(input, shape=(1,))
    axis %= input.ndim
    count = input.shape[axis]
    times = np.broadcast_to(np.asarray(repeats, np.int64), (count,))
    return _ops.gather(input, constant(np.repeat(np.arange(count), times)), axis=axis)


def meshgrid(*args: Any, **kwargs: Any) -> list[Tensor]:
    """Grids of coordinates: of each vector a tensor over all combinations.

    Args:
        *args: The vectors.
        **kwargs: `indexing`, "xy" (the first two axes are swapped) or "ij"; `name` is ignored.
    """
    indexing = kwargs.pop("indexing", "xy")
    kwargs.pop("name", None)
    if kwargs:
        raise TypeError(f"Invalid keyword arguments for this function: {', '.join(kwargs)}")
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Argument `indexing` parameter must be 'xy' or 'ij', got {indexing!r}")
    vectors = [_ops.reshape(arg, shape=(-1,)) for arg in args]
    order = list(builtins.range(len(vectors)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = 1, 0
    shape = [0] * len(vectors)
    for vector, axis in zip(vectors, order, strict=True):
        shape[axis] = vector.shape[0]
    grids = []
    for vector, axis in zip(vectors, order, strict=True):
        extents = [1] * len(vectors)
        extents[axis] = -1
        grids.append(_ops.broadcast_to(_ops.reshape(vector, shape=extents), shape=shape))
    return grids


def sequence_mask(
    lengths: Any, maxlen: Any = None, dtype: Any = dtypes.bool, name: str | None = None
) -> Tensor:
    """Rows that are true in their first elements, as many as a length says.

    Args:
        lengths: The lengths, of any shape.
        maxlen: Length of the rows; the largest of `lengths`, which is fetched, by default.
        dtype: Dtype of the result.
        name: Ignored.
    """
    lengths = _value(lengths)
    most = np.max(np.asarray(lengths), initial=0) if maxlen is None else maxlen
    numbers = constant(np.arange(int(most)), lengths.dtype)
    return cast(_ops.less(numbers, _ops.expand_dims(lengths, axis=-1)), dtype)


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)
