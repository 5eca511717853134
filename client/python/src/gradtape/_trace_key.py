"""What of the arguments of a function a trace of it depends on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from gradtape.tensor import Tensor
from gradtape.tensor_shape import TensorSpec
from gradtape.variable import Variable


def key_of(value: Any) -> Hashable:
    """Returns what of an argument a trace depends on."""
    if isinstance(value, (Tensor, TensorSpec)):
        return ("tensor", value.dtype.number, tuple(value.shape or ()))
    if isinstance(value, Variable):
        return ("variable", value._serial)
    if isinstance(value, Mapping):
        items = ((key, key_of(value[key])) for key in sorted(value))
        return (type(value), *items)
    if isinstance(value, (list, tuple)):
        return (type(value), *map(key_of, value))
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        # True == 1 == 1.0, and 0.0 == -0.0.
        return (type(value), repr(value))
    return _Identity(value)


def form_key(values: Sequence[Any]) -> Hashable:
    """Returns what a trace depends on, if the values are all tensors; else None."""
    key: list[Any] = []
    for value in values:
        if type(value) is not Tensor:
            return None
        key += (value._form, value._dtype)
    return tuple(key)


class _Identity:
    """An object as a part of a key: itself and nothing that equals it, as long as it is there."""

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._there: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._there = lambda: value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Identity)
            and self._id == other._id
            and self._there() is not None
            and self._there() is other._there()
        )

    def __hash__(self) -> int:
        return self._id
