"""Moves blocks of positions between axes, and tells shapes (`tf.space_to_batch`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradtape import _ops, dtypes
from gradtape._export import integers
from gradtape.tensor import Tensor, Value, constant, convert_to_tensor
from gradtape.tensor_shape import TensorShape


def space_to_batch(input: Any, block_shape: Any, paddings: Any, name: str | None = None) -> Tensor:
    """Moves the positions of each block into the batch, after padding with zeros.

    Args:
        input: Tensor of shape [batch, spatial axes, more axes].
        block_shape: Extent of the blocks along each spatial axis.
        paddings: A pair of numbers for each: how many zeros before and behind.
        name: Ignored.
    """
    pairs = integers(np.asarray(paddings).reshape(-1))
    return _ops.space_to_batch_nd(input, block_shape=integers(block_shape), paddings=pairs)


space_to_batch_nd = space_to_batch


def batch_to_space(input: Any, block_shape: Any, crops: Any, name: str | None = None) -> Tensor:
    """Moves positions from the batch back into blocks, and crops: undoes `space_to_batch`."""
    block = integers(block_shape)
    if len(block) == 1 and np.asarray(crops).shape == (2, 2):
        block *= 2  # One number stands for both axes of an image.
    pairs = integers(np.asarray(crops).reshape(-1))
    return _ops.batch_to_space_nd(input, block_shape=block, crops=pairs)


def required_space_to_batch_paddings(
    input_shape: Any, block_shape: Any, base_paddings: Any = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The paddings and crops with which blocks divide a shape."""
    shape, block = np.array(integers(input_shape)), np.array(integers(block_shape))
    base = np.zeros((len(shape), 2), int) if base_paddings is None else np.asarray(base_paddings)
    more = -(shape + base.sum(1)) % block
    paddings = np.stack([base[:, 0], base[:, 1] + more], 1)
    crops = np.stack([np.zeros_like(more), more], 1)
    return constant(paddings, dtypes.int32), constant(crops, dtypes.int32)


def channels_last(
    change: Callable[..., Tensor], input: Any, block_size: int, data_format: str
) -> Tensor:
    """Applies `space_to_depth` or its reverse to images of either format."""
    if data_format == "NHWC":
        return change(input, block_size=block_size)
    if data_format != "NCHW":
        raise ValueError(f"`data_format` must be 'NHWC' or 'NCHW', got {data_format!r}")
    result = change(_ops.transpose(input, perm=(0, 2, 3, 1)), block_size=block_size)
    return _ops.transpose(result, perm=(0, 3, 1, 2))


def extract_volume_patches(
    input: Any, ksizes: Any, strides: Any, padding: str, name: str | None = None
) -> Tensor:
    """Lays the cells of each patch of a volume into the channels.

    Args:
        input: Tensor of shape [batch, planes, rows, columns, channels].
        ksizes: Extents of a patch, [1, planes, rows, columns, 1].
        strides: Steps between patches, written alike.
        padding: "VALID" or "SAME".
        name: Ignored.
    """
    input = input if isinstance(input, Value) else convert_to_tensor(input)
    sizes, steps = integers(ksizes)[1:4], integers(strides)[1:4]
    input, counts = pad_for_windows(input, sizes, steps, padding, 0.0)
    cells = []
    for cell in itertools.product(*map(range, sizes)):
        cells.append(window_cells(input, cell, steps, counts))
    return _ops.concat(cells, axis=-1)


def pad_for_windows(
    x: Value, sizes: Sequence[int], steps: Sequence[int], padding: str, constant: float
) -> tuple[Value, list[int]]:
    """Pads the spatial axes for windows, and counts the windows along each."""
    extents = x.shape[1:-1]
    if padding == "VALID":
        return x, [(n - k) // s + 1 for n, k, s in zip(extents, sizes, steps, strict=True)]
    if padding != "SAME":
        raise ValueError(f"`padding` must be 'VALID' or 'SAME', got {padding!r}")
    counts = [-(-n // s) for n, s in zip(extents, steps, strict=True)]
    paddings = [0, 0]
    for n, k, s, count in zip(extents, sizes, steps, counts, strict=True):
        missing = max((count - 1) * s + k - n, 0)
        paddings += [missing // 2, missing - missing // 2]
    return _ops.pad(x, paddings=(*paddings, 0, 0), constant=constant), counts


def window_cells(
    x: Value, cell: Sequence[int], steps: Sequence[int], counts: Sequence[int]
) -> Tensor:
    """The cells at one position of all windows."""
    keys = [
        slice(at, at + (count - 1) * step + 1, step)
        for at, step, count in zip(cell, steps, counts, strict=True)
    ]
    return x[(slice(None), *keys)]


# === Shapes and the same values ===


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The shape to which two shapes broadcast."""
    return TensorShape(np.broadcast_shapes(tuple(shape_x), tuple(shape_y)))


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Tensor:
    """The shape to which two shapes, which are tensors, broadcast."""
    x, y = (v if isinstance(v, Value) else convert_to_tensor(v) for v in (shape_x, shape_y))
    return constant(np.array(np.broadcast_shapes(integers(x), integers(y)), int), x.dtype)


def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor:
    """Returns `x`, or raises InvalidArgumentError if a shape, where None fits all, does not fit."""
    from gradtape import errors

    x = x if isinstance(x, Value) else convert_to_tensor(x)
    wanted = None if shape is None else tuple(shape)
    fits = wanted is None or (
        len(wanted) == x.ndim
        and all(w in (None, -1, n) for w, n in zip(wanted, x.shape, strict=True))
    )
    if not fits:
        raise errors.InvalidArgumentError(
            f"Shape of tensor {x.shape} is not compatible with expected shape {wanted}.",
            reason="SHAPE_MISMATCH",
        )
    return _ops.identity(x)


def shape_n(
    input: Sequence[Any], out_type: Any = dtypes.int32, name: str | None = None
) -> list[Tensor]:
    """The extents of several tensors."""
    return [constant(list(convert_to_tensor(x).shape), out_type) for x in input]


def identity_n(input: Sequence[Any], name: str | None = None) -> list[Tensor]:
    """Tensors with the same values."""
    return [_ops.identity(x) for x in input]


def tuple_(
    tensors: Sequence[Any], control_inputs: Any = None, name: str | None = None
) -> list[Any]:
    """Tensors with the same values; operations are done in order, so there is nothing to wait for.

    Args:
        tensors: The tensors; a None among them stays.
        control_inputs: Ignored.
        name: Ignored.
    """
    return [None if x is None else _ops.identity(x) for x in tensors]


def bitcast(input: Any, type: Any, name: str | None = None) -> Tensor:
    """Takes the bits of the elements, which are fetched, for those of another dtype.

    A smaller dtype adds an axis for the parts of an element, and a larger one joins the last axis.
    """
    array, dtype = np.asarray(convert_to_tensor(input)), dtypes.as_dtype(type)
    old, new = array.dtype.itemsize, dtype.size
    if new < old:
        array = array[..., None]
    elif new > old and array.shape[-1:] != (new // old,):
        raise ValueError(f"Cannot bitcast shape {array.shape} to {dtype.name}")
    bits = np.ascontiguousarray(array).view(dtype.as_numpy_dtype)
    return constant(bits[..., 0] if new > old else bits, dtype)
