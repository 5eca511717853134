"""Counts, ranks and asks about elements (`tf.math.bincount`, `tf.math.top_k`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradtape import _export, _ops, dtypes, errors
from gradtape.tensor import Tensor, Value, cast, constant, convert, convert_to_tensor


class TopKV2(NamedTuple):
    """What `tf.math.top_k` returns."""

    values: Tensor
    indices: Tensor


def top_k(
    input: Any,
    k: int = 1,
    sorted: bool = True,
    index_type: Any = dtypes.int32,
    name: str | None = None,
) -> TopKV2:
    """The largest elements along the last axis and their places, the largest first.

    Args:
        input: The elements.
        k: How many.
        sorted: Ignored: they are sorted in any case.
        index_type: Dtype of the places.
        name: Ignored.
    """
    input = _value(input)
    places = _ops.top_k_indices(input, k=int(k))
    return TopKV2(_ops.take_along_axis(input, places, axis=-1), cast(places, index_type))


def in_top_k(targets: Any, predictions: Any, k: int, name: str | None = None) -> Tensor:
    """Whether the prediction for a target is among the k largest of its row."""
    return _ops.in_top_k(targets, predictions, k=int(k))


def count_nonzero(
    input: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    dtype: Any = dtypes.int64,
    name: str | None = None,
) -> Tensor:
    """Number of elements along axes, by default all of them, that are not zero."""
    return cast(_COUNT(input, axis, bool(keepdims)), dtype)


_COUNT = _export.public(_ops.count_nonzero)


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of elements that are zero."""
    value = _value(value)
    zeros = _ops.cast(_ops.equal(value, _ops.zeros_like(value)), dtype=dtypes.float32)
    return _ops.reduce_mean(zeros)


def bincount(
    arr: Any,
    weights: Any = None,
    minlength: int | None = None,
    maxlength: int | None = None,
    dtype: Any = dtypes.int32,
    name: str | None = None,
    axis: int | None = None,
    binary_output: bool = False,
) -> Tensor:
    """How often each number comes.

    The largest number, which decides the shape, is fetched, unless `minlength` is `maxlength`.

    Args:
        arr: Integers that are not negative.
        weights: What each of them counts, 1 by default.
        minlength: Numbers to count at least.
        maxlength: Numbers to count at most; larger ones are left out.
        dtype: Dtype of the counts where there are no weights.
        name: Ignored.
        axis: None to count all elements together, -1 for each row of a matrix by itself.
        binary_output: Whether to tell only if a number comes, by 1 or 0.
    """
    arr = _value(arr)
    if axis not in (None, 0, -1):
        raise ValueError(
            f"Unsupported value for argument axis={axis}. Only 0 and -1 are supported."
        )
    if binary_output and weights is not None:
        raise ValueError("Arguments `binary_output` and `weights` are mutually exclusive.")
    length = minlength
    if minlength is None or minlength != maxlength:
        length = max(int(np.max(np.asarray(arr), initial=-1)) + 1, minlength or 0)
        length = length if maxlength is None else min(length, maxlength)
    by_row = axis == -1 and arr.ndim == 2
    rows = arr.shape[0] if by_row else 1
    numbers = _ops.reshape(cast(arr, dtypes.int64), shape=(rows, -1))
    places = numbers + constant(np.arange(rows)[:, None] * length)
    # Those that are left out get a negative number, which adds to nothing.
    places = _ops.where(numbers < length, places, constant(np.int64(-1)))
    dtype = dtypes.as_dtype(dtype) if weights is None else _value(weights).dtype
    ones = _ops.full(shape=tuple(arr.shape), value=1.0, dtype=dtype)
    each = _ops.reshape(ones if weights is None else weights, shape=(-1,))
    counts = _ops.unsorted_segment_sum(
        each, _ops.reshape(places, shape=(-1,)), num_segments=rows * length
    )
    if binary_output:
        counts = _ops.minimum(counts, 1)
    return _ops.reshape(counts, shape=(rows, length)) if by_row else counts


def confusion_matrix(
    labels: Any,
    predictions: Any,
    num_classes: Any = None,
    weights: Any = None,
    dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """How often a label (row) met a prediction (column).

    Args:
        labels: Numbers of classes.
        predictions: Numbers of classes.
        num_classes: How many there are; by default, the largest one is fetched.
        weights: What each pair counts, 1 by default.
        dtype: Dtype of the counts.
        name: Ignored.
    """
    labels, predictions = cast(labels, dtypes.int64), cast(predictions, dtypes.int64)
    if num_classes is None:
        largest = [np.max(np.asarray(x), initial=-1) for x in (labels, predictions)]
        num_classes = int(max(largest)) + 1
    classes, dtype = int(num_classes), dtypes.as_dtype(dtype)
    ones = _ops.full(shape=tuple(labels.shape), value=1.0, dtype=dtype)
    each = ones if weights is None else cast(weights, dtype)
    indices = _ops.stack([labels, predictions], axis=-1)
    return _ops.scatter_nd(indices, each, shape=(classes, classes))


def histogram_fixed_width_bins(
    values: Any,
    value_range: Any,
    nbins: int = 100,
    dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """The bin of each element; what is outside of the range belongs to the first or last bin.

    Args:
        values: The elements.
        value_range: The lower bound of the first bin, and the upper one of the last.
        nbins: The number of bins, all of them equally wide.
        dtype: Dtype of the result.
        name: Ignored.
    """
    values = _value(values)
    ends = convert(value_range, values.dtype)
    low, high = ends[0], ends[1]
    places = _ops.floor((values - low) / (high - low) * float(nbins))
    clipped = _ops.minimum(_ops.maximum(places, 0.0), float(nbins - 1))
    return cast(clipped, dtype)


def histogram_fixed_width(
    values: Any,
    value_range: Any,
    nbins: int = 100,
    dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """How many elements are in each bin; see `histogram_fixed_width_bins`."""
    bins = histogram_fixed_width_bins(values, value_range, nbins)
    return bincount(bins, minlength=nbins, maxlength=nbins, dtype=dtype)


def invert_permutation(x: Any, name: str | None = None) -> Tensor:
    """The permutation y with y[x[i]] = i."""
    x = _value(x)
    if x.ndim != 1:
        raise errors.InvalidArgumentError(
            f"invert_permutation expects a 1D vector, got {x.shape}", reason="SHAPE_MISMATCH"
        )
    return cast(_ops.argsort(x), x.dtype)


def is_non_decreasing(x: Any, name: str | None = None) -> Tensor:
    """Whether no element, in row-major order, is smaller than the one before."""
    return _all_pairs(_ops.less_equal, x)


def is_strictly_increasing(x: Any, name: str | None = None) -> Tensor:
    """Whether each element, in row-major order, is larger than the one before."""
    return _all_pairs(_ops.less, x)


def _all_pairs(holds: Any, x: Any) -> Tensor:
    flat = _ops.reshape(x, shape=(-1,))
    return _ops.reduce_all(holds(flat[:-1], flat[1:]))


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)
