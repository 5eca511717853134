"""Arrays made, as NumPy and Keras name it."""

from __future__ import annotations

import math as _math
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras import backend
from gradtape.keras.ops import arrays
from gradtape.keras.ops._lift import common, floating, lift, shape_of, value


def _dtype(dtype: Any) -> Any:
    return tf.as_dtype(backend.floatx() if dtype is None else dtype)


def array(x: Any, dtype: Any = None) -> Any:
    """A tensor of numbers."""
    return value(x, dtype)


def convert_to_tensor(x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Any:
    """A tensor of numbers."""
    return value(x, dtype)


def zeros(shape: Any, dtype: Any = None) -> Any:
    """A tensor of zeros."""
    return tf.zeros(shape_of(shape), _dtype(dtype))


def ones(shape: Any, dtype: Any = None) -> Any:
    """A tensor of ones."""
    return tf.ones(shape_of(shape), _dtype(dtype))


def empty(shape: Any, dtype: Any = None) -> Any:
    """A tensor of zeros: there is nothing that is not initialised."""
    return zeros(shape, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """A tensor of one number."""
    return tf.broadcast_to(value(fill_value, dtype), shape_of(shape))


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape of a tensor."""
    return tf.zeros_like(value(x, dtype))


def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones in the shape of a tensor."""
    return tf.ones_like(value(x, dtype))


def empty_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape of a tensor."""
    return zeros_like(x, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """One number in the shape of a tensor."""
    x = value(x, dtype)
    return tf.broadcast_to(tf.cast(value(fill_value), x.dtype), x.shape)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    """Numbers at equal distances."""
    if dtype is None:
        given = [each for each in (start, stop, step) if each is not None]
        whole = [isinstance(each, (int, np.integer)) for each in given]
        dtype = "int32" if False not in whole else backend.floatx()
    first, last = (0, start) if stop is None else (start, stop)
    numbers = np.arange(first, last, 1 if step is None else step)
    return tf.constant(numbers.astype(tf.as_dtype(dtype).as_numpy_dtype))


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """So many numbers at equal distances."""
    start, stop = (floating(x) for x in common(start, stop))
    start, stop = start + tf.zeros_like(stop), stop + tf.zeros_like(start)
    parts = num - 1 if endpoint else num
    step = (stop - start) / float(parts or 1)
    shape = [1] * (start.ndim + 1)
    shape[0] = num
    counts = tf.reshape(tf.range(num, dtype=start.dtype), shape)
    found = tf.expand_dims(start, 0) + counts * tf.expand_dims(step, 0)
    found = arrays.moveaxis(found, 0, axis) if axis else found
    found = found if dtype is None else tf.cast(found, dtype)
    return (found, step) if retstep else found


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Powers at equal distances of the exponents."""
    found = tf.exp(linspace(start, stop, num, endpoint, axis=axis) * _math.log(base))
    return found if dtype is None else tf.cast(found, dtype)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:  # noqa: N803
    """Ones on a diagonal, zeros elsewhere."""
    return tf.constant(np.eye(N, M, k, dtype=_dtype(dtype).as_numpy_dtype))


def identity(n: int, dtype: Any = None) -> Any:
    """The identity matrix."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:  # noqa: N803
    """Ones on and below a diagonal, zeros above."""
    return tf.constant(np.tri(N, M, k, dtype=_dtype(dtype).as_numpy_dtype))


def _window(function: Any, x: Any) -> Any:
    return tf.constant(function(int(x)).astype(np.float32))


def bartlett(x: Any) -> Any:
    """Bartlett's window of so many numbers."""
    return _window(np.bartlett, x)


def blackman(x: Any) -> Any:
    """Blackman's window of so many numbers."""
    return _window(np.blackman, x)


def hamming(x: Any) -> Any:
    """Hamming's window of so many numbers."""
    return _window(np.hamming, x)


def hanning(x: Any) -> Any:
    """Hann's window of so many numbers."""
    return _window(np.hanning, x)


def kaiser(x: Any, beta: float) -> Any:
    """Kaiser's window of so many numbers."""
    return _window(lambda count: np.kaiser(count, beta), x)


def meshgrid(*x: Any, indexing: str = "xy") -> Any:
    """Coordinates of a grid."""
    given = [tf.reshape(value(each), (-1,)) for each in x]
    order = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        order[0], order[1] = 1, 0
    extents = [given[i].shape[0] for i in order]
    grids = []
    for i, each in enumerate(given):
        shape = [1] * len(given)
        shape[order.index(i)] = -1
        grids.append(tf.broadcast_to(tf.reshape(each, shape), extents))
    return grids


__all__ = lift(globals(), __name__)
