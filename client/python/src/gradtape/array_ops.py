"""Makes, shapes and picks from tensors, with TensorFlow's signatures (`tf.reshape`)."""

from __future__ import annotations

import builtins
import math as _math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtape import _export, _ops, dtypes
from gradtape._blocks import (
    batch_to_space,
    bitcast,
    broadcast_dynamic_shape,
    broadcast_static_shape,
    ensure_shape,
    extract_volume_patches,
    identity_n,
    required_space_to_batch_paddings,
    shape_n,
    space_to_batch,
    space_to_batch_nd,
    tuple_ as tuple,
)
from gradtape._export import integers
from gradtape._indexing import strided_slice as _take
from gradtape._partition import dynamic_partition, dynamic_stitch
from gradtape._selection import (
    argsort,
    boolean_mask,
    gather,
    gather_nd,
    meshgrid,
    repeat,
    reverse,
    reverse_sequence,
    roll,
    scatter_nd,
    searchsorted,
    sequence_mask,
    sort,
    tensor_scatter_nd_add,
    tensor_scatter_nd_max,
    tensor_scatter_nd_min,
    tensor_scatter_nd_sub,
    unique,
    unique_with_counts,
    where,
)
from gradtape.tensor import Tensor, Value, cast, constant, convert_to_tensor, to_numpy

if TYPE_CHECKING:

    def __getattr__(name):
        return getattr(_ops, name)


_WIDTHS = (
    dtypes.int32,
    dtypes.int64,
    dtypes.float16,
    dtypes.bfloat16,
    dtypes.float32,
    dtypes.float64,
)


def _value(x: Any, dtype: Any = None) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x, dtype)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """Converts elements to another dtype; what does not fit becomes the nearest that does."""
    value, dtype = _value(value), dtypes.as_dtype(dtype)
    low, high = max(value.dtype.min, dtype.min), min(value.dtype.max, dtype.max)
    if value.dtype.is_floating and dtype.is_integer:
        # A float type may round the largest integer up, beyond what fits.
        number = value.dtype.as_numpy_dtype.type
        high = number(high) if int(number(high)) <= dtype.max else np.nextafter(number(high), 0)
    if low > value.dtype.min or high < value.dtype.max:
        value = _ops.clip_by_value(value, clip_value_min=float(low), clip_value_max=float(high))
    return cast(value, dtype)


# === Making ===


def zeros(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Tensor:
    """Returns a tensor of zeros."""
    return _ops.full(shape=integers(shape), value=0.0, dtype=dtype)


def ones(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Tensor:
    """Returns a tensor of ones."""
    return _ops.full(shape=integers(shape), value=1.0, dtype=dtype)


def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """Returns a tensor of equal elements, whose dtype is the value's."""
    if isinstance(value, Value):
        return _ops.broadcast_to(value, shape=integers(dims))
    array, dtype = to_numpy(value, None)
    if array.ndim:
        raise ValueError(f"The value of tf.fill must be a scalar, got shape {array.shape}")
    if dtype is dtypes.int64:  # Not all of them are doubles.
        return _ops.broadcast_to(constant(value), shape=integers(dims))
    return _ops.full(shape=integers(dims), value=float(array), dtype=dtype)


def zeros_like(input: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Returns zeros of the shape, and unless another is given the dtype, of a tensor."""
    like = _ops.zeros_like(input)
    return like if dtype is None else cast(like, dtype)


def ones_like(input: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Returns ones of the shape, and unless another is given the dtype, of a tensor."""
    like = _ops.ones_like(input)
    return like if dtype is None else cast(like, dtype)


def range(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = None
) -> Tensor:
    """Returns the numbers from `start` up to but not including `limit`, or from 0 up to `start`."""
    if limit is None:
        start, limit = 0, start
    numbers = [x.numpy() if isinstance(x, Value) else x for x in (start, limit, delta)]
    if dtype is None:
        # Of the dtypes of the arguments the widest, as NumPy orders them; Python's own are 32 bits.
        found = (to_numpy(x, None)[1] for x in numbers)
        dtype = max(found, key=_WIDTHS.index)
    dtype = dtypes.as_dtype(dtype)
    if not numbers[2]:
        raise ValueError("The delta of tf.range must not be 0")
    return constant(np.arange(*numbers).astype(dtype.as_numpy_dtype))


def linspace(start: Any, stop: Any, num: int, name: str | None = None, axis: int = 0) -> Tensor:
    """Returns evenly spaced numbers from `start` to `stop`, both included."""
    if isinstance(start, Value) or isinstance(stop, Value):
        return _ops.linspace(start, stop, num=int(num), axis=axis)
    dtype = to_numpy(start, None)[1]
    if not dtype.is_floating:
        dtype = dtypes.float64
    return constant(np.linspace(start, stop, int(num), axis=axis), dtype)


def eye(
    num_rows: int,
    num_columns: int | None = None,
    batch_shape: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """Returns identity matrices."""
    columns = num_rows if num_columns is None else num_columns
    matrix = _ops.one_hot(range(num_rows), depth=columns, dtype=dtype)
    if batch_shape is None:
        return matrix
    return _ops.broadcast_to(matrix, shape=(*integers(batch_shape), num_rows, columns))


def one_hot(
    indices: Any,
    depth: int,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """Returns rows that are `on_value` at an index and `off_value` elsewhere.

    Args:
        indices: Positions in the rows; one out of range gives a row without `on_value`.
        depth: Length of the rows.
        on_value: 1 by default.
        off_value: 0 by default.
        axis: Axis of the result that holds the rows; the last one by default.
        dtype: Element type; that of the values, or else float32.
        name: Ignored.
    """
    indices = _value(indices)
    if dtype is None:
        given = [value for value in (on_value, off_value) if value is not None]
        dtype = _value(given[0]).dtype if given else dtypes.float32
    dtype = dtypes.as_dtype(dtype)
    if on_value is None and off_value is None:
        hot = _ops.one_hot(indices, depth=depth, dtype=dtype)
    else:
        on = _value(1 if on_value is None else on_value, dtype)
        off = _value(0 if off_value is None else off_value, dtype)
        hot = _ops.where(_ops.one_hot(indices, depth=depth, dtype=dtypes.bool), on, off)
    if axis is None or axis == -1:
        return hot
    return move_axis(hot, -1, axis)


# === Shaping ===


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """Returns the same elements in another shape, of which one extent may be -1."""
    return _ops.reshape(tensor, shape=integers(shape))


def transpose(a: Any, perm: Any = None, conjugate: bool = False, name: str = "transpose") -> Tensor:
    """Permutes the axes: axis i of the result is axis perm[i]. Without `perm`, reverses them."""
    return _ops.transpose(a, perm=() if perm is None else integers(perm))


def move_axis(x: Any, source: int, destination: int) -> Tensor:
    """Moves one axis to another place; the others keep their order."""
    x = _value(x)
    order = list(builtins.range(x.ndim))
    axis = order.pop(source)
    order.insert(destination % x.ndim, axis)
    return _ops.transpose(x, perm=order)


def expand_dims(input: Any, axis: int, name: str | None = None) -> Tensor:
    """Inserts an axis of extent 1."""
    return _ops.expand_dims(input, axis=axis)


def squeeze(input: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Removes axes of extent 1: the given ones, or all."""
    return _ops.squeeze(input, axis=() if axis is None else integers(axis))


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """Repeats a tensor until it has a shape, by the rules of broadcasting."""
    return _ops.broadcast_to(input, shape=integers(shape))


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """Repeats a tensor along each axis."""
    return _ops.tile(input, multiples=integers(multiples))


def pad(
    tensor: Any,
    paddings: Any,
    mode: str = "CONSTANT",
    constant_values: float = 0,
    name: str | None = None,
) -> Tensor:
    """Surrounds a tensor: for each axis a pair says how much before and behind.

    Args:
        tensor: The tensor.
        paddings: The pairs.
        mode: "CONSTANT", or "REFLECT" for the mirror image without the edge, or "SYMMETRIC" for
            the mirror image with it.
        constant_values: The constant.
        name: Ignored.
    """
    mode, amounts = mode.upper(), integers(np.asarray(paddings).reshape(-1))
    if mode in ("REFLECT", "SYMMETRIC"):
        return _ops.mirror_pad(tensor, paddings=amounts, mode=mode)
    if mode != "CONSTANT":
        raise ValueError(f"Unknown padding mode: {mode}")
    return _ops.pad(tensor, paddings=amounts, constant=float(constant_values))


# === Joining and taking apart ===


def concat(values: Any, axis: int, name: str = "concat") -> Tensor:
    """Joins tensors along an axis."""
    if isinstance(values, Value):
        values = [values]
    return _ops.concat(values, axis=axis)


def stack(values: Sequence[Any], axis: int = 0, name: str = "stack") -> Tensor:
    """Joins tensors of one shape along a new axis."""
    return _ops.stack(values, axis=axis)


def parallel_stack(values: Sequence[Any], name: str = "parallel_stack") -> Tensor:
    """Joins tensors of one shape along a new first axis."""
    return _ops.stack(values, axis=0)


def unstack(
    value: Any, num: int | None = None, axis: int = 0, name: str = "unstack"
) -> list[Tensor]:
    """Takes a tensor apart along an axis, which the parts do not have."""
    value = _value(value)
    count = value.shape[axis] if num is None else num
    if count == 0:
        return []
    parts = _ops.split(value, num_splits=count, axis=axis)
    return [_ops.squeeze(part, axis=(axis,)) for part in parts]


def split(
    value: Any, num_or_size_splits: Any, axis: int = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """Takes a tensor apart along an axis.

    Args:
        value: The tensor.
        num_or_size_splits: The number of equal parts, or their extents, of which one may be -1.
        axis: The axis.
        num: Ignored.
        name: Ignored.
    """
    if hasattr(num_or_size_splits, "__index__") and not np.ndim(num_or_size_splits):
        count = operator.index(num_or_size_splits)
        return _ops.split(value, num_splits=count, axis=axis)  # type: ignore[no-any-return]
    value = _value(value)
    sizes = list(integers(num_or_size_splits))
    extent = value.shape[axis]
    if -1 in sizes:
        sizes[sizes.index(-1)] = extent - (sum(sizes) + 1)
    if sum(sizes) != extent or min(sizes, default=0) < 0:
        raise ValueError(f"tf.split cannot make parts of {num_or_size_splits} of extent {extent}")
    before = (builtins.slice(None),) * (axis % value.ndim)
    parts, start = [], 0
    for size in sizes:
        parts.append(_take(value, (*before, builtins.slice(start, start + size))))
        start += size
    return parts


def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """Cuts a block out of a tensor; an extent of -1 means all that is left of an axis."""
    return _ops.slice(input_, begin=integers(begin), size=integers(size))


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """Cuts out a block with steps; `x[...]` says the same more readably.

    Args:
        input_: The tensor.
        begin: First positions.
        end: Positions to stop before.
        strides: Steps; 1 by default.
        begin_mask: Bits of the entries whose begin is the edge.
        end_mask: Bits of the entries whose end is the edge.
        ellipsis_mask: Bit of the entry that stands for all axes not named.
        new_axis_mask: Bits of the entries that insert an axis.
        shrink_axis_mask: Bits of the entries that remove the axis.
        var: The variable behind `input_`: the result then has `assign`.
        name: Ignored.
    """
    begin = integers(begin)
    window = {
        "begin": begin,
        "end": integers(end),
        "strides": (1,) * len(begin) if strides is None else integers(strides),
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "ellipsis_mask": ellipsis_mask,
        "new_axis_mask": new_axis_mask,
        "shrink_axis_mask": shrink_axis_mask,
    }
    result = _ops.strided_slice(input_, **window)
    return result if var is None else var._sliced(result, window)


# === Asking ===


def shape(input: Any, out_type: Any = None, name: str | None = None) -> Tensor:
    """Returns the extents as a tensor, of int32 by default."""
    return _known(list(_value(input).shape), out_type)


def size(input: Any, out_type: Any = None, name: str | None = None) -> Tensor:
    """Returns the number of elements as a tensor, of int32 by default."""
    return _known(_math.prod(_value(input).shape), out_type)


def rank(input: Any, name: str | None = None) -> Tensor:
    """Returns the number of dimensions as a tensor."""
    return _known(_value(input).ndim)


def _known(numbers: Any, dtype: Any = None) -> Tensor:
    """Makes a tensor that knows its elements in the body of a function, too: shapes steer it."""
    array, dtype = to_numpy(numbers, dtypes.as_dtype(dtype or dtypes.int32))
    tensor = constant(array, dtype)
    tensor._elements = array
    return tensor


def unravel_index(indices: Any, dims: Any, name: str | None = None) -> Tensor:
    """Coordinates of positions in a flattened array: a row for each axis of the shape `dims`."""
    rest, extents = _value(indices), integers(dims)
    rows = []
    for extent in reversed(extents):
        rows.append(_ops.floormod(rest, extent))
        rest = _ops.floordiv(rest, extent)
    return _ops.stack(rows[::-1], axis=0)


# === The same values ===


def identity(input: Any, name: str | None = None) -> Tensor:
    """Returns a tensor with the same value."""
    return _ops.identity(input)


def stop_gradient(input: Any, name: str | None = None) -> Tensor:
    """Returns a tensor with the same value, through which no gradient flows."""
    return _ops.stop_gradient(input)


__all__ = [
    "argsort", "batch_to_space", "bitcast", "boolean_mask", "broadcast_dynamic_shape",
    "broadcast_static_shape", "dynamic_partition", "dynamic_stitch", "ensure_shape",
    "extract_volume_patches", "eye", "fill", "gather", "gather_nd", "identity_n", "linspace",
    "meshgrid", "ones", "parallel_stack", "range", "rank", "repeat",
    "required_space_to_batch_paddings", "reverse", "reverse_sequence", "roll", "saturate_cast",
    "scatter_nd", "searchsorted", "sequence_mask", "shape", "shape_n", "size", "sort",
    "space_to_batch", "space_to_batch_nd", "tensor_scatter_nd_add", "tensor_scatter_nd_max",
    "tensor_scatter_nd_min", "tensor_scatter_nd_sub", "tuple", "unique", "unique_with_counts",
    "unravel_index", "unstack", "where", "zeros",
]  # fmt: skip
__all__ += _export.export(globals(), "array")
