"""Arithmetic, elementary functions, comparisons and reductions (`tf.math`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtape import _execute, _export, _ops, dtypes
from gradtape.tensor import Tensor, Value, cast, convert_to_tensor, true_divide

if TYPE_CHECKING:

    def __getattr__(name): ...


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Divides as Python does: integers as float64."""
    return true_divide(x, y)


def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Divides as Python does: integers as float64."""
    return true_divide(x, y)


def mod(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Remainder of the quotient rounded down; it has the divisor's sign."""
    return _ops.floormod(x, y)


def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """Logarithm of the logistic sigmoid."""
    return _ops.negative(_ops.softplus(_ops.negative(x)))


def softplus(features: Any, name: str | None = None) -> Tensor:
    """Smooth rectifier, ln(1 + exp(x))."""
    return _ops.softplus(features)


def add_n(inputs: Sequence[Any], name: str | None = None) -> Tensor:
    """Sum of tensors of one shape, from the first to the last."""
    if not inputs:
        raise ValueError("Inputs must be an Iterable of at least one Tensor/IndexedSlices.")
    total, *rest = _execute.as_values(inputs)
    for value in rest:
        total = total + value
    return total if rest else _ops.identity(total)


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Tensor:
    """Product of a scalar and a tensor."""
    return _ops.multiply(scalar, x)


def is_nan(x: Any, name: str | None = None) -> Tensor:
    """Whether elements are NaN: those that are not equal to themselves."""
    return _ops.not_equal(x, x)


def is_finite(x: Any, name: str | None = None) -> Tensor:
    """Whether elements are neither NaN nor infinite."""
    return _ops.less(_ops.abs(x), np.inf)


def clip_by_value(
    t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None
) -> Tensor:
    """Clips to bounds, which may be numbers or tensors; the gradient passes on the bounds too."""
    bounds = (clip_value_min, clip_value_max)
    t = t if isinstance(t, Value) else convert_to_tensor(t)
    if not t.dtype.is_floating or any(isinstance(b, Value) or np.ndim(b) for b in bounds):
        return _ops.minimum(_ops.maximum(t, clip_value_min), clip_value_max)
    return _ops.clip_by_value(t, clip_value_min=clip_value_min, clip_value_max=clip_value_max)


def reduce_mean(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """Mean along axes; of integers, rounded towards zero."""
    x = input_tensor if isinstance(input_tensor, Value) else convert_to_tensor(input_tensor)
    if not x.dtype.is_integer:
        return _REDUCE_MEAN(x, axis, keepdims)
    return cast(_REDUCE_MEAN(cast(x, dtypes.float64), axis, keepdims), x.dtype)


def argmax(
    input: Any, axis: int | None = None, output_type: Any = dtypes.int64, name: str | None = None
) -> Tensor:
    """Position of the largest element along an axis, by default the first; of equals the first."""
    return cast(_ops.argmax(input, axis=axis or 0), output_type)


def argmin(
    input: Any, axis: int | None = None, output_type: Any = dtypes.int64, name: str | None = None
) -> Tensor:
    """Position of the smallest element along an axis, by default the first; of equals the first."""
    return cast(_ops.argmin(input, axis=axis or 0), output_type)


def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None
) -> Tensor:
    """Divides by the Euclidean norm along axes; a square of it below `epsilon` counts as that."""
    squares = _REDUCE_SUM(_ops.square(x), axis, keepdims=True)
    return _ops.multiply(x, _ops.rsqrt(_ops.maximum(squares, epsilon)))


_REDUCE_MEAN = _export.public(_ops.reduce_mean)
_REDUCE_SUM = _export.public(_ops.reduce_sum)
__all__ = [
    "add_n",
    "is_finite",
    "is_nan",
    "l2_normalize",
    "log_sigmoid",
    "mod",
    "scalar_mul",
    "softplus",
    "truediv",
]
__all__ += _export.export(globals(), "math")
