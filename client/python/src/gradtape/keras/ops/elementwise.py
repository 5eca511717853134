"""Functions of each element, as NumPy and Keras name them."""

from __future__ import annotations

import math as _math
from collections.abc import Callable
from typing import Any

import gradtape as tf
from gradtape import _ops
from gradtape.keras.ops._lift import common, floating, lift, value

# Functions of one tensor, by the server's op. First those that keep integers, then the others.
_SAME = {
    "abs": "abs", "absolute": "abs", "negative": "negative", "sign": "sign", "square": "square",
    "logical_not": "logical_not", "bitwise_invert": "invert", "bitwise_not": "invert",
}  # fmt: skip
_FLOATING = {
    "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctanh": "atanh", "cos": "cos", "cosh": "cosh", "erf": "erf", "erfc": "erfc",
    "erfinv": "erfinv", "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p",
    "reciprocal": "reciprocal", "rsqrt": "rsqrt", "sin": "sin", "sinh": "sinh", "sqrt": "sqrt",
    "tan": "tan", "tanh": "tanh", "fabs": "abs",
}  # fmt: skip
# Functions of two tensors, which are brought to one dtype.
_BINARY = {
    "add": "add", "subtract": "subtract", "multiply": "multiply", "maximum": "maximum",
    "minimum": "minimum", "floor_divide": "floordiv", "mod": "floormod", "equal": "equal",
    "not_equal": "not_equal", "less": "less", "less_equal": "less_equal", "greater": "greater",
    "greater_equal": "greater_equal", "power": "pow", "fmod": "truncatemod",
}  # fmt: skip
_LOGICAL = ("logical_and", "logical_or", "logical_xor")
_BITS = {
    "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or", "bitwise_xor": "bitwise_xor",
    "bitwise_left_shift": "left_shift", "left_shift": "left_shift",
    "bitwise_right_shift": "right_shift", "right_shift": "right_shift",
}  # fmt: skip


def _first(op: Callable[..., Any]) -> str:
    return (op.__doc__ or "").splitlines()[0]


def _define(name: str, function: Callable[..., Any], doc: str) -> None:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    function.__module__ = __name__
    globals()[name] = function


def _unary(name: str, op: Callable[..., Any], convert: Callable[[Any], Any]) -> None:
    def function(x: Any) -> Any:
        return op(convert(x))

    _define(name, function, _first(op))


def _binary(name: str, op: Callable[..., Any]) -> None:
    def function(x1: Any, x2: Any) -> Any:
        return op(*common(x1, x2))

    _define(name, function, _first(op))


def _logical(name: str, op: Callable[..., Any]) -> None:
    def function(x1: Any, x2: Any) -> Any:
        return op(*(tf.cast(value(x), tf.bool) for x in (x1, x2)))

    _define(name, function, _first(op))


def _bits(name: str, op: Callable[..., Any]) -> None:
    def function(x: Any, y: Any) -> Any:
        return op(*common(x, y))

    _define(name, function, _first(op))


for _name, _op in _SAME.items():
    _unary(_name, getattr(_ops, _op), value)
for _name, _op in _FLOATING.items():
    _unary(_name, getattr(_ops, _op), floating)
for _name, _op in _BINARY.items():
    _binary(_name, getattr(_ops, _op))
for _name in _LOGICAL:
    _logical(_name, getattr(_ops, _name))
for _name, _op in _BITS.items():
    _bits(_name, getattr(_ops, _op))


def ceil(x: Any) -> Any:
    """The least integer that is not below."""
    return _ops.ceil(floating(x))


def floor(x: Any) -> Any:
    """The greatest integer that is not above."""
    return _ops.floor(floating(x))


def trunc(x: Any) -> Any:
    """The integer towards zero."""
    x = value(x)
    if x.dtype.is_integer:
        return x
    return tf.where(x < 0.0, _ops.ceil(x), _ops.floor(x))


def round(x: Any, decimals: int = 0) -> Any:
    """The nearest number with so many decimals; halves go to even ones."""
    x = value(x)
    if x.dtype.is_integer:
        return x
    factor = 10.0**decimals
    return _ops.round(x) if decimals == 0 else _ops.round(x * factor) / factor


def divide(x1: Any, x2: Any) -> Any:
    """Quotient; of integers, with a fraction."""
    x1, x2 = common(x1, x2)
    return _ops.divide(floating(x1), floating(x2))


true_divide = divide


def divide_no_nan(x1: Any, x2: Any) -> Any:
    """Quotient, which is 0 where the divisor is."""
    x1, x2 = common(x1, x2)
    return _ops.divide_no_nan(floating(x1), floating(x2))


def arctan2(x1: Any, x2: Any) -> Any:
    """Angle of the point (x2, x1)."""
    x1, x2 = common(x1, x2)
    return _ops.atan2(floating(x1), floating(x2))


def hypot(x1: Any, x2: Any) -> Any:
    """Length of the vector (x1, x2)."""
    x1, x2 = (floating(x) for x in common(x1, x2))
    larger, smaller = tf.maximum(tf.abs(x1), tf.abs(x2)), tf.minimum(tf.abs(x1), tf.abs(x2))
    return larger * tf.sqrt(1.0 + tf.square(tf.math.divide_no_nan(smaller, larger)))


def cbrt(x: Any) -> Any:
    """Cube root, also of negative numbers."""
    x = floating(x)
    return tf.sign(x) * tf.pow(tf.abs(x), 1.0 / 3.0)


def exp2(x: Any) -> Any:
    """Power of 2."""
    return tf.exp(floating(x) * _math.log(2.0))


def log2(x: Any) -> Any:
    """Logarithm of base 2."""
    return tf.math.log(floating(x)) / _math.log(2.0)


def log10(x: Any) -> Any:
    """Logarithm of base 10."""
    return tf.math.log(floating(x)) / _math.log(10.0)


def logaddexp(x1: Any, x2: Any) -> Any:
    """Logarithm of the sum of exponentials."""
    x1, x2 = (floating(x) for x in common(x1, x2))
    return tf.maximum(x1, x2) + tf.math.log1p(tf.exp(-tf.abs(x1 - x2)))


def logaddexp2(x1: Any, x2: Any) -> Any:
    """Logarithm of base 2 of the sum of powers of 2."""
    x1, x2 = (floating(x) * _math.log(2.0) for x in common(x1, x2))
    return logaddexp(x1, x2) / _math.log(2.0)


def ldexp(x1: Any, x2: Any) -> Any:
    """`x1` times a power of 2."""
    x1 = floating(x1)
    return x1 * tf.exp(tf.cast(value(x2), x1.dtype) * _math.log(2.0))


def deg2rad(x: Any) -> Any:
    """Degrees as radians."""
    return floating(x) * (_math.pi / 180.0)


def rad2deg(x: Any) -> Any:
    """Radians as degrees."""
    return floating(x) * (180.0 / _math.pi)


def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """Numbers between bounds."""
    x = value(x)
    return tf.minimum(tf.maximum(x, tf.cast(value(x_min), x.dtype)), tf.cast(value(x_max), x.dtype))


def heaviside(x1: Any, x2: Any) -> Any:
    """0 below zero, 1 above, and `x2` at zero."""
    x1, x2 = (floating(x) for x in common(x1, x2))
    return tf.where(tf.equal(x1, 0.0), x2, tf.cast(x1 > 0.0, x1.dtype))


def sinc(x: Any) -> Any:
    """`sin(pi x) / (pi x)`, which is 1 at zero."""
    x = floating(x) * _math.pi
    zero = tf.equal(x, 0.0)
    safe = tf.where(zero, tf.ones_like(x), x)
    return tf.where(zero, tf.ones_like(x), tf.sin(safe) / safe)


def isnan(x: Any) -> Any:
    """Whether elements are NaN."""
    return tf.math.is_nan(floating(x))


def isinf(x: Any) -> Any:
    """Whether elements are infinite."""
    return _ops.is_inf(floating(x))


def isfinite(x: Any) -> Any:
    """Whether elements are finite."""
    return tf.math.is_finite(floating(x))


def isposinf(x: Any) -> Any:
    """Whether elements are positive and infinite."""
    return tf.logical_and(isinf(x), floating(x) > 0.0)


def isneginf(x: Any) -> Any:
    """Whether elements are negative and infinite."""
    return tf.logical_and(isinf(x), floating(x) < 0.0)


def isreal(x: Any) -> Any:
    """True: there are no complex numbers."""
    return tf.ones_like(tf.cast(value(x), tf.bool))


def signbit(x: Any) -> Any:
    """Whether numbers are negative, as -0.0 is."""
    x = value(x)
    if x.dtype.is_integer:
        return x < 0
    return tf.logical_or(x < 0.0, tf.logical_and(tf.equal(x, 0.0), 1.0 / x < 0.0))


def isclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether numbers are equal within tolerances."""
    x1, x2 = (floating(x) for x in common(x1, x2))
    finite = tf.logical_and(tf.math.is_finite(x1), tf.math.is_finite(x2))
    near = tf.logical_and(tf.abs(x1 - x2) <= atol + rtol * tf.abs(x2), finite)
    close = tf.logical_or(near, tf.equal(x1, x2))
    if equal_nan:
        close = tf.logical_or(close, tf.logical_and(tf.math.is_nan(x1), tf.math.is_nan(x2)))
    return close


def nan_to_num(x: Any, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Numbers in the place of NaN and infinities; those of the dtype by default."""
    x = value(x)
    if not x.dtype.is_floating:
        return x
    highest = float(x.dtype.max) if posinf is None else posinf
    lowest = float(x.dtype.min) if neginf is None else neginf
    ones = tf.ones_like(x)
    x = tf.where(tf.math.is_nan(x), ones * nan, x)
    infinite = _ops.is_inf(x)
    x = tf.where(tf.logical_and(infinite, x > 0.0), ones * highest, x)
    return tf.where(tf.logical_and(infinite, x < 0.0), ones * lowest, x)


def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """`x1` where the condition holds and `x2` elsewhere."""
    if x1 is None or x2 is None:
        raise ValueError("`where` of a condition alone has a shape that depends on its values.")
    return tf.where(tf.cast(value(condition), tf.bool), *common(x1, x2))


def fmax(x1: Any, x2: Any) -> Any:
    """The larger of two numbers; the other one of a NaN."""
    x1, x2 = (floating(x) for x in common(x1, x2))
    return tf.where(tf.math.is_nan(x1), x2, tf.where(tf.math.is_nan(x2), x1, tf.maximum(x1, x2)))


def fmin(x1: Any, x2: Any) -> Any:
    """The smaller of two numbers; the other one of a NaN."""
    x1, x2 = (floating(x) for x in common(x1, x2))
    return tf.where(tf.math.is_nan(x1), x2, tf.where(tf.math.is_nan(x2), x1, tf.minimum(x1, x2)))


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """The choice of the first condition that holds, or the default."""
    result: Any = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return result


__all__ = lift(globals(), __name__)
