"""Random tensors of distributions, from the state that a `Draw` gives for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradtape import _ops, dtypes
from gradtape._export import integers
from gradtape.tensor import Tensor, Value, cast, constant, convert_to_tensor

# Takes the number of elements, and returns the state to make them of: key and counter.
Draw = Callable[[int], Tensor]


def normal(draw: Draw, shape: Any, mean: Any, stddev: Any, dtype: Any) -> Tensor:
    """Normal numbers."""
    shape, dtype = integers(shape), dtypes.as_dtype(dtype)
    state = draw(math.prod(shape))
    if np.ndim(mean) == 0 and np.ndim(stddev) == 0 and not _tensors(mean, stddev):
        return _ops.random_normal(
            state, shape=shape, dtype=dtype, mean=float(mean), stddev=float(stddev)
        )
    return _ops.random_normal(state, shape=shape, dtype=dtype) * stddev + mean


def uniform(draw: Draw, shape: Any, minval: Any, maxval: Any, dtype: Any) -> Tensor:
    """Uniform numbers, also integers."""
    shape, dtype = integers(shape), dtypes.as_dtype(dtype)
    if minval is None and maxval is None and dtype.is_integer:
        return full_range(draw, shape, dtype)
    if maxval is None:
        if dtype.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {dtype.name}")
        maxval = 1
    if dtype.is_integer:
        # Doubles hold every integer up to 2^53, and a floor makes the intervals equally long.
        real = uniform(draw, shape, _real(minval), _real(maxval), dtypes.float64)
        return cast(_ops.floor(real), dtype)
    state = draw(math.prod(shape))
    if np.ndim(minval) == 0 and np.ndim(maxval) == 0 and not _tensors(minval, maxval):
        return _ops.random_uniform(
            state, shape=shape, dtype=dtype, minval=float(minval), maxval=float(maxval)
        )
    unit = _ops.random_uniform(state, shape=shape, dtype=dtype)
    return _ops.add(_ops.multiply(unit, _ops.subtract(maxval, minval)), minval)


def _tensors(*values: Any) -> bool:
    return any(isinstance(value, Value) for value in values)


def _real(value: Any) -> Any:
    return cast(value, dtypes.float64) if isinstance(value, Value) or np.ndim(value) else value


def full_range(draw: Draw, shape: tuple[int, ...], dtype: dtypes.DType) -> Tensor:
    """Uniform integers of the whole range of a dtype."""
    if dtype not in (dtypes.int32, dtypes.int64):
        raise ValueError(f"Full-range integers are int32 or int64 here, got {dtype.name}")
    state = draw(2 * math.prod(shape))
    real = _ops.random_uniform(state, shape=(2, *shape), dtype=dtypes.float64)
    low, high = (cast(_ops.floor(real[i] * 2.0**32), dtypes.int64) for i in (0, 1))
    if dtype is dtypes.int32:
        return cast(low - 2**31, dtype)
    return _ops.bitwise_or(_ops.left_shift(high - 2**31, 32), low)


def truncated_normal(draw: Draw, shape: Any, mean: Any, stddev: Any, dtype: Any) -> Tensor:
    """Normal numbers of at most two standard deviations from the mean."""
    edge = 0.5 * math.erfc(math.sqrt(2.0))
    share = uniform(draw, shape, edge, 1.0 - edge, dtype)
    return _ops.ndtri(share) * stddev + mean


def bounded_normal(
    draw: Draw, shape: Any, mean: Any, stddev: Any, minval: Any, maxval: Any
) -> Tensor:
    """Normal numbers between bounds, by the inverse of their distribution's function."""
    mean, stddev, minval, maxval = (_float(x) for x in (mean, stddev, minval, maxval))
    low, high = (minval - mean) / stddev, (maxval - mean) / stddev
    # In the upper tail nothing is left of 1 - share: it is mirrored.
    above = _ops.greater(low, _ops.negative(high))
    first = _ops.where(above, _ops.negative(high), low)
    last = _ops.where(above, _ops.negative(low), high)
    least, most = (_ops.erfc(x * -math.sqrt(0.5)) * 0.5 for x in (first, last))
    share = uniform(draw, shape, 0.0, 1.0, dtypes.float32) * (most - least) + least
    drawn = _ops.minimum(_ops.maximum(_ops.ndtri(share), first), last)
    return _ops.where(above, _ops.negative(drawn), drawn) * stddev + mean


def gamma(draw: Draw, shape: Any, alpha: Any, beta: Any, dtype: Any) -> Tensor:
    """Gamma variables; of a shape to which `alpha` and `beta` broadcast."""
    dtype = dtypes.as_dtype(dtype)
    alpha = alpha if isinstance(alpha, Value) else convert_to_tensor(alpha, dtype)
    shape = integers(shape)
    drawn = _ops.random_gamma(draw(math.prod(shape)), _ops.broadcast_to(alpha, shape=shape))
    return drawn if beta is None else _ops.divide(drawn, beta)


def poisson(draw: Draw, shape: Any, rate: Any, dtype: Any) -> Tensor:
    """Poisson variables; of a shape to which `rate` broadcasts."""
    shape = integers(shape)
    rate = _float(rate)
    drawn = _ops.random_poisson(draw(math.prod(shape)), _ops.broadcast_to(rate, shape=shape))
    return cast(drawn, dtype)


def categorical(draw: Draw, logits: Any, num_samples: Any, dtype: Any) -> Tensor:
    """Numbers of classes, so many for each row of logits."""
    logits, count = _float(logits), int(num_samples)
    state = draw(logits.shape[0] * count)
    drawn = _ops.random_categorical(state, logits, num_samples=count)
    return cast(drawn, dtypes.int64 if dtype is None else dtype)


def binomial(draw: Draw, shape: Any, counts: Any, probs: Any, dtype: Any) -> Tensor:
    """Numbers of successes, made in this process: the server has no binomial numbers."""
    key, counter = np.asarray(draw(math.prod(integers(shape)))).view(np.uint64).tolist()
    generator = np.random.Generator(np.random.Philox(key=[key, 0], counter=[counter, 0, 0, 0]))
    counts, probs = np.asarray(counts).astype(np.int64), np.asarray(probs, np.float64)
    return cast(constant(generator.binomial(counts, probs, integers(shape))), dtype)


def permutation(draw: Draw, count: int) -> Tensor:
    """The numbers up to `count` in random order."""
    return _ops.random_permutation(draw(count), n=count)


def _float(x: Any) -> Value:
    x = x if isinstance(x, Value) else convert_to_tensor(x)
    return x if x.dtype.is_floating else cast(x, dtypes.float32)
