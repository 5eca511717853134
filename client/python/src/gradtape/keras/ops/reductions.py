"""Sums, means and their like along axes, as NumPy and Keras name them."""

from __future__ import annotations

from typing import Any

import gradtape as tf
from gradtape import _ops
from gradtape.keras.ops._lift import axes, common, floating, lift, value
from gradtape.keras.ops.elementwise import isclose


def _numbers(x: Any) -> Any:
    x = value(x)
    return tf.cast(x, tf.int32) if x.dtype.is_bool else x


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum along axes."""
    return tf.reduce_sum(_numbers(x), axis=axes(x, axis), keepdims=keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Any:
    """Product along axes."""
    x = _numbers(x)
    x = x if dtype is None else tf.cast(x, dtype)
    return tf.reduce_prod(x, axis=axes(x, axis), keepdims=keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean along axes."""
    return tf.reduce_mean(floating(x), axis=axes(x, axis), keepdims=keepdims)


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Variance along axes."""
    return tf.math.reduce_variance(floating(x), axis=axes(x, axis), keepdims=keepdims)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Standard deviation along axes."""
    return tf.math.reduce_std(floating(x), axis=axes(x, axis), keepdims=keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Any:
    """The largest along axes, and not less than `initial`."""
    found = tf.reduce_max(_numbers(x), axis=axes(x, axis), keepdims=keepdims)
    return found if initial is None else tf.maximum(found, tf.cast(value(initial), found.dtype))


def min(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Any:
    """The smallest along axes, and not more than `initial`."""
    found = tf.reduce_min(_numbers(x), axis=axes(x, axis), keepdims=keepdims)
    return found if initial is None else tf.minimum(found, tf.cast(value(initial), found.dtype))


def amax(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest along axes."""
    return tf.reduce_max(_numbers(x), axis=axes(x, axis), keepdims=keepdims)


def amin(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest along axes."""
    return tf.reduce_min(_numbers(x), axis=axes(x, axis), keepdims=keepdims)


def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Difference of the largest and the smallest along axes."""
    return amax(x, axis, keepdims) - amin(x, axis, keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all along axes hold."""
    return tf.reduce_all(tf.cast(value(x), tf.bool), axis=axes(x, axis), keepdims=keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether any along axes holds."""
    return tf.reduce_any(tf.cast(value(x), tf.bool), axis=axes(x, axis), keepdims=keepdims)


def allclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether all numbers are equal within tolerances."""
    return tf.reduce_all(isclose(x1, x2, rtol, atol, equal_nan))


def count_nonzero(x: Any, axis: Any = None) -> Any:
    """How many along axes are not zero."""
    held = tf.cast(tf.cast(value(x), tf.bool), tf.int32)
    return tf.reduce_sum(held, axis=axes(x, axis))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Logarithm of the sum of exponentials along axes."""
    return tf.reduce_logsumexp(floating(x), axis=axes(x, axis), keepdims=keepdims)


def _place(op: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
    x = value(x)
    if axis is None:
        place = op(tf.reshape(x, (-1,)), axis=0)
        return tf.cast(tf.reshape(place, (1,) * x.ndim) if keepdims else place, tf.int32)
    place = op(x, axis=axis)
    return tf.cast(tf.expand_dims(place, axis) if keepdims else place, tf.int32)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Place of the largest."""
    return _place(tf.argmax, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Place of the smallest."""
    return _place(tf.argmin, x, axis, keepdims)


def average(x: Any, axis: Any = None, weights: Any = None) -> Any:
    """Mean along axes, perhaps with weights."""
    if weights is None:
        return mean(x, axis)
    x, weights = (floating(each) for each in common(x, weights))
    if weights.ndim < x.ndim and isinstance(axis, int):
        shape = [1] * x.ndim
        shape[axis] = -1
        weights = tf.reshape(weights, shape)
    weights = tf.broadcast_to(weights, x.shape)
    total = tf.reduce_sum(x * weights, axis=axes(x, axis))
    return total / tf.reduce_sum(weights, axis=axes(x, axis))


def moments(x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> Any:
    """Mean and variance along axes."""
    return tf.nn.moments(floating(x), list(axes) if not isinstance(axes, int) else [axes],
                         keepdims=keepdims)  # fmt: skip


def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Sums of all up to each element."""
    x = _numbers(x) if dtype is None else tf.cast(value(x), dtype)
    return tf.cumsum(tf.reshape(x, (-1,)) if axis is None else x, axis=axis or 0)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Products of all up to each element."""
    x = _numbers(x) if dtype is None else tf.cast(value(x), dtype)
    return tf.math.cumprod(tf.reshape(x, (-1,)) if axis is None else x, axis=axis or 0)


def _kept(x: Any, fill: float) -> tuple[Any, Any]:
    """Returns numbers with something in the place of NaN, and where there is none."""
    x = floating(x)
    known = tf.logical_not(tf.math.is_nan(x))
    return tf.where(known, x, tf.ones_like(x) * fill), known


def nansum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum along axes of what is not NaN."""
    return tf.reduce_sum(_kept(x, 0.0)[0], axis=axes(x, axis), keepdims=keepdims)


def nanprod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product along axes of what is not NaN."""
    return tf.reduce_prod(_kept(x, 1.0)[0], axis=axes(x, axis), keepdims=keepdims)


def nanmax(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest along axes of what is not NaN; NaN if all is."""
    kept, known = _kept(x, float("-inf"))
    found = tf.reduce_max(kept, axis=axes(x, axis), keepdims=keepdims)
    some = tf.reduce_any(known, axis=axes(x, axis), keepdims=keepdims)
    return tf.where(some, found, tf.ones_like(found) * float("nan"))


def nanmin(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest along axes of what is not NaN; NaN if all is."""
    return tf.negative(nanmax(tf.negative(floating(x)), axis, keepdims))


def nanargmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Place of the largest of what is not NaN."""
    return argmax(_kept(x, float("-inf"))[0], axis, keepdims)


def nanargmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Place of the smallest of what is not NaN."""
    return argmin(_kept(x, float("inf"))[0], axis, keepdims)


def nanmean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean along axes of what is not NaN."""
    kept, known = _kept(x, 0.0)
    count = tf.reduce_sum(tf.cast(known, kept.dtype), axis=axes(x, axis), keepdims=keepdims)
    return tf.reduce_sum(kept, axis=axes(x, axis), keepdims=keepdims) / count


def nanvar(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Variance along axes of what is not NaN."""
    x = floating(x)
    return nanmean(tf.square(x - nanmean(x, axis, keepdims=True)), axis, keepdims)


def nanstd(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Standard deviation along axes of what is not NaN."""
    return tf.sqrt(nanvar(x, axis, keepdims))


def nancumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Sums of all up to each element, in which NaN is 0."""
    return cumsum(_kept(x, 0.0)[0], axis, dtype)


def nancumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Products of all up to each element, in which NaN is 1."""
    return cumprod(_kept(x, 1.0)[0], axis, dtype)


def median(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The number in the middle along axes, or the mean of the two there."""
    return quantile(x, 0.5, axis, keepdims=keepdims)


def quantile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """Numbers below which shares of the others lie.

    Args:
        x: The numbers.
        q: The share, or shares, which become the first axis.
        axis: The axes; all by default.
        method: "linear", "lower", "higher", "midpoint" or "nearest": what is between two numbers.
        keepdims: Whether the axes stay, with extent 1.
    """
    x, shares = floating(x), floating(q)
    chosen = sorted(a % x.ndim for a in axes(x, axis) or range(x.ndim))
    others = [a for a in range(x.ndim) if a not in chosen]
    flat = tf.transpose(x, (*others, *chosen))
    flat = tf.sort(tf.reshape(flat, (*(x.shape[a] for a in others), -1)), axis=-1)
    at = tf.cast(shares, flat.dtype) * float(flat.shape[-1] - 1)
    below, above = tf.floor(at), tf.math.ceil(at)
    part = {
        "linear": at - below,
        "lower": tf.zeros_like(at),
        "higher": tf.ones_like(at),
        "midpoint": tf.ones_like(at) * 0.5,
        "nearest": tf.round(at) - below,
    }[method]
    first, second = (tf.gather(flat, tf.cast(i, tf.int32), axis=-1) for i in (below, above))
    found = first * (1.0 - part) + second * part
    if shares.ndim:
        found = tf.transpose(found, (found.ndim - 1, *range(found.ndim - 1)))
    if keepdims:
        kept = [1 if a in chosen else x.shape[a] for a in range(x.ndim)]
        found = tf.reshape(found, (*shares.shape, *kept))
    return found


def percentile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """Numbers below which percentages of the others lie; see `quantile`."""
    return quantile(x, floating(q) / 100.0, axis, method, keepdims)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Norm of vectors or matrices."""
    kind = "euclidean" if ord in (None, 2, "fro") else ord
    return tf.norm(floating(x), ord=kind, axis=axis, keepdims=keepdims)


def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    """How often each number from 0 on is there. Waits for the server, which knows the largest."""
    numbers = tf.cast(value(x), tf.int32)
    most = int(tf.reduce_max(numbers)) + 1
    count = most if most > minlength else minlength
    hot = tf.one_hot(numbers, count, dtype=tf.float32)
    if weights is None:
        return tf.cast(tf.reduce_sum(hot, axis=-2), tf.int32)
    return tf.reduce_sum(hot * tf.expand_dims(tf.cast(value(weights), tf.float32), -1), axis=-2)


def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    """Integral along an axis by trapezoids."""
    y = floating(y)
    left, right = (_cut(y, axis, where) for where in (slice(None, -1), slice(1, None)))
    if x is None:
        return tf.reduce_sum((left + right) * (dx / 2.0), axis=axis)
    x = tf.cast(value(x), y.dtype)
    steps = _cut(x, -1, slice(1, None)) - _cut(x, -1, slice(None, -1))
    if x.ndim == 1:
        shape = [1] * y.ndim
        shape[axis] = -1
        steps = tf.reshape(steps, shape)
    return tf.reduce_sum((left + right) * steps / 2.0, axis=axis)


def _cut(x: Any, axis: int, part: slice) -> Any:
    key = [slice(None)] * x.ndim
    key[axis] = part
    return x[tuple(key)]


def diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    """Differences of neighbours, `n` times."""
    a = _numbers(a)
    for _ in range(n):
        a = _cut(a, axis, slice(1, None)) - _cut(a, axis, slice(None, -1))
    return a


def in_top_k(targets: Any, predictions: Any, k: int) -> Any:
    """Whether the scores of targets are among the highest of each row."""
    return _ops.in_top_k(value(targets), value(predictions), k=k)


__all__ = lift(globals(), __name__)
