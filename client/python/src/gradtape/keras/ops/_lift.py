"""Lets functions of tensors take symbolic ones, and numbers and arrays of several dtypes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import gradtape as tf
from gradtape.keras import backend, symbolic
from gradtape.tensor import Value

# From the narrowest to the widest; what is of different kinds meets at the next that holds both.
_ORDER = ("bool", "int32", "int64", "bfloat16", "float16", "float32", "float64")


class Call:
    """A call of a function with symbolic tensors; each is an object of its own, as a layer is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.name = function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function for symbolic tensors too."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if symbolic.is_symbolic(args, kwargs):
            return symbolic.record(Call(function), args, kwargs)
        return function(*args, **kwargs)

    return wrapper


def lift(namespace: dict[str, Any], module: str) -> list[str]:
    """Lifts the public functions that a module defines, and returns their names."""
    names = [
        name
        for name, value in list(namespace.items())
        if name[0] != "_" and getattr(value, "__module__", None) == module and callable(value)
    ]
    for name in names:
        namespace[name] = lifted(namespace[name])
    return sorted(names)


def value(x: Any, dtype: Any = None) -> Any:
    """Returns a tensor; Python's floats and NumPy's doubles become `floatx`."""
    if isinstance(x, Value):
        return x if dtype is None else tf.cast(x, dtype)
    tensor = tf.convert_to_tensor(x)
    if dtype is None and tensor.dtype is tf.float64 and not hasattr(x, "dtype"):
        dtype = backend.floatx()
    return tensor if dtype is None else tf.cast(tensor, dtype)


def floating(x: Any) -> Any:
    """Returns a tensor of numbers with fractions: integers become `floatx`."""
    x = value(x)
    return x if x.dtype.is_floating else tf.cast(x, backend.floatx())


def common(*xs: Any) -> list[Any]:
    """Returns tensors of one dtype; Python's numbers take that of the others."""
    strong = [value(x) for x in xs if not isinstance(x, (bool, int, float))]
    if not strong:
        strong = [value(x) for x in xs]
    dtype = joined(x.dtype for x in strong)
    if any(isinstance(x, float) for x in xs) and not dtype.is_floating:
        dtype = tf.as_dtype(backend.floatx())
    if dtype.is_bool and any(isinstance(x, int) and not isinstance(x, bool) for x in xs):
        dtype = tf.int32
    return [
        tf.cast(x, dtype) if isinstance(x, Value) else tf.cast(tf.convert_to_tensor(x), dtype)
        for x in xs
    ]


def joined(dtypes: Iterable[Any]) -> Any:
    """Returns the narrowest dtype that holds all of several."""
    found = None
    for dtype in dtypes:
        if found is None or found is dtype:
            found = dtype
        elif {found.name, dtype.name} == {"float16", "bfloat16"}:
            found = tf.float32
        else:
            found = max(found, dtype, key=lambda each: _ORDER.index(each.name))
    return found


def axes(x: Any, axis: Any) -> Any:
    """Returns the axes that an argument names, as a tuple of numbers; None for all."""
    if axis is None:
        return None
    return (axis,) if isinstance(axis, int) else tuple(axis)


def shape_of(shape: Any) -> tuple[int, ...]:
    """Returns a shape, or axes, that may be one number, as a tuple."""
    return (shape,) if isinstance(shape, int) else tuple(int(extent) for extent in shape)
