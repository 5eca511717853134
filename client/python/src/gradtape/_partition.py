"""Taking tensors apart by numbers, and joining them again.

The results' shapes depend on those numbers, so they are read here, once; everything else is the server's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradtape import _ops
from gradtape.tensor import Tensor, Value, convert_to_tensor


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)


def _integers(x: Any) -> np.ndarray:
    array = np.asarray(x.numpy() if isinstance(x, Value) else x)
    if not array.size:
        return array.astype(np.int64)
    if array.dtype.kind != "i":
        raise TypeError(f"Integers are expected, got {array.dtype}")
    return array.astype(np.int64)


def dynamic_partition(
    data: Any, partitions: Any, num_partitions: int, name: str | None = None
) -> list[Tensor]:
    """Takes the slices of `data` apart.

    Args:
        data: The slices.
        partitions: For each slice the number of the part that it belongs to; its shape is that of the
            first axes of `data`.
        num_partitions: How many parts there are.
        name: Ignored.

    Returns:
        For each part its slices, in their order.
    """
    data, numbers = _value(data), _integers(partitions)
    lead = tuple(data.shape[: numbers.ndim])
    if lead != numbers.shape:
        raise ValueError(
            f"'partitions' must have the shape of the first axes of 'data', got {numbers.shape} and "
            f"{data.shape}"
        )
    if numbers.size and not (0 <= numbers.min() and numbers.max() < num_partitions):
        raise ValueError(f"'partitions' must be in [0, {num_partitions}), got {numbers.tolist()}")
    rows = _ops.reshape(data, shape=(numbers.size, *data.shape[numbers.ndim :]))
    return [
        _ops.gather(rows, convert_to_tensor(np.flatnonzero(numbers.ravel() == part)))
        for part in range(num_partitions)
    ]


def dynamic_stitch(
    indices: Sequence[Any], data: Sequence[Any], name: str | None = None
) -> Tensor:
    """Puts slices to places of a tensor; of several for one place the last one counts.

    Args:
        indices: For each tensor of `data` the places of its slices along the first axis of the
            result, which has as many as the largest of them says; the others are zeros.
        data: The slices.
        name: Ignored.
    """
    places = [_integers(each) for each in indices]
    values = [_value(each) for each in data]
    if len(places) != len(values) or not values:
        raise ValueError("'indices' and 'data' must be lists of one length, at least 1")
    tails = {tuple(value.shape[each.ndim :]) for each, value in zip(places, values, strict=True)}
    if len(tails) > 1 or any(
        tuple(value.shape[: each.ndim]) != each.shape
        for each, value in zip(places, values, strict=True)
    ):
        raise ValueError(
            "each of 'data' must have the shape of its 'indices', and then one that is common to all"
        )
    (tail,) = tails
    flat = np.concatenate([each.ravel() for each in places])
    if flat.size and flat.min() < 0:
        raise ValueError(f"'indices' must not be negative, got {flat.tolist()}")
    rows = [
        _ops.reshape(value, shape=(math.prod(each.shape), *tail))
        for each, value in zip(places, values, strict=True)
    ]
    joined = _ops.concat(rows, axis=0)
    extent = int(flat.max()) + 1 if flat.size else 0
    zeros = _ops.full(shape=(extent, *tail), dtype=joined.dtype, value=0.0)
    return _ops.tensor_scatter_nd_update(zeros, convert_to_tensor(flat[:, None]), joined)
