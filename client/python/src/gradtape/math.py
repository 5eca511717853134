"""Arithmetic, elementary functions, comparisons and reductions (`tf.math`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtape import _execute, _export, _ops, dtypes
from gradtape._counting import (
    bincount,
    confusion_matrix,
    count_nonzero,
    in_top_k,
    invert_permutation,
    is_non_decreasing,
    is_strictly_increasing,
    top_k,
    zero_fraction,
)
from gradtape._norms import l2_normalize
from gradtape._selection import argsort, searchsorted, sort
from gradtape.tensor import (
    Tensor,
    Value,
    cast,
    constant,
    convert,
    convert_to_tensor,
    true_divide,
)

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


def accumulate_n(
    inputs: Sequence[Any], shape: Any = None, tensor_dtype: Any = None, name: str | None = None
) -> Tensor:
    """Sum of tensors of one shape; `shape`, `tensor_dtype` and `name` are ignored."""
    return add_n(inputs)


def polyval(coeffs: Sequence[Any], x: Any, name: str | None = None) -> Tensor:
    """Value of a polynomial, whose coefficients start with that of the highest power."""
    if not isinstance(coeffs, (list, tuple)):
        raise ValueError(f"Argument coeffs must be list type. Received type {type(coeffs)}.")
    x = x if isinstance(x, Value) else convert_to_tensor(x)
    if not coeffs:
        return _ops.zeros_like(x)
    total: Any = coeffs[0] if isinstance(coeffs[0], Value) else convert(coeffs[0], x.dtype)
    for coefficient in coeffs[1:]:
        total = _ops.add(coefficient, _ops.multiply(total, x))
    return _ops.identity(total)


def rint(x: Any, name: str | None = None) -> Tensor:
    """The nearest integer; halves go to the even one."""
    return _ops.round(x)


def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """Reciprocal, and 0 of 0."""
    x = x if isinstance(x, Value) else convert_to_tensor(x)
    return _ops.divide_no_nan(_ops.ones_like(x), x)


def erfcinv(x: Any, name: str | None = None) -> Tensor:
    """Inverse of `erfc`."""
    return _ops.multiply(_ops.ndtri(_ops.multiply(x, 0.5)), -math.sqrt(0.5))


def lbeta(x: Any, name: str | None = None) -> Tensor:
    """Logarithm of the beta function of the vectors along the last axis."""
    return _ops.reduce_sum(_ops.lgamma(x), axis=(-1,)) - _ops.lgamma(_ops.reduce_sum(x, axis=(-1,)))


def polygamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """Derivatives of the digamma function, of the order `a`: whole numbers, which are fetched."""
    orders = np.asarray(a)
    if (orders != np.floor(orders)).any():
        raise ValueError(f"tf.math.polygamma has whole orders here, got {orders}")
    x = x if isinstance(x, Value) else convert_to_tensor(x)
    result = None
    for order in np.unique(orders):
        one = _ops.polygamma(x, n=int(order)) if order else _ops.digamma(x)
        result = one if result is None else _ops.where(constant(orders == order), one, result)
    return result  # type: ignore[return-value]


def nextafter(x1: Any, x2: Any, name: str | None = None) -> Tensor:
    """The next number after `x1` in the direction of `x2`; both are fetched. No gradient flows."""
    x1, x2 = _execute.as_values((x1, x2))
    return constant(np.nextafter(np.asarray(x1), np.asarray(x2)), x1.dtype)


def softmax(logits: Any, axis: int | None = None, name: str | None = None) -> Tensor:
    """Softmax along an axis, the last one by default."""
    return _ops.softmax(logits, axis=-1 if axis is None else axis)


def log_softmax(logits: Any, axis: int | None = None, name: str | None = None) -> Tensor:
    """Logarithm of softmax along an axis, the last one by default."""
    return _ops.log_softmax(logits, axis=-1 if axis is None else axis)


def softsign(features: Any, name: str | None = None) -> Tensor:
    """Smooth sign, x / (1 + |x|)."""
    return _ops.softsign(features)


def realdiv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Divides real numbers."""
    return _ops.divide(x, y)


_REDUCE_MEAN = _export.public(_ops.reduce_mean)
__all__ = [
    "accumulate_n", "add_n", "argsort", "bincount", "confusion_matrix", "count_nonzero",
    "erfcinv", "in_top_k", "invert_permutation", "is_finite", "is_nan", "is_non_decreasing",
    "is_strictly_increasing", "l2_normalize", "lbeta", "log_sigmoid", "log_softmax", "mod",
    "nextafter", "polyval", "realdiv", "reciprocal_no_nan", "rint", "scalar_mul",
    "searchsorted", "softmax", "softplus", "softsign", "sort", "top_k", "truediv",
    "zero_fraction",
]  # fmt: skip
__all__ += _export.export(globals(), "math")
