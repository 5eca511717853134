"""Elements of datasets: nests of arrays, tensors and, in windows, datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradtape import nest
from gradtape.tensor import Value, convert_to_tensor


class Sequence:
    """What every part of `Dataset` builds on: a way to go through the elements, and their number.

    Args:
        make: Returns an iterator over all elements.
        length: Number of elements, INFINITE_CARDINALITY or UNKNOWN_CARDINALITY.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], length: int) -> None:
        self._make = make
        self._length = length

    @classmethod
    def _of_elements(cls, elements: list[Any]) -> Any:
        return cls(lambda: iter(elements), len(elements))

    def _known(self, length: int) -> int:
        """Returns a length that was computed from this dataset's, if that is known."""
        return length if self._length >= 0 else self._length


def tensor(leaf: Any) -> Any:
    """A leaf as programs get it: a tensor, or the dataset that a window is."""
    return leaf if isinstance(leaf, Sequence) else convert_to_tensor(leaf)


def tensors(element: Any) -> Any:
    """An element as programs get it."""
    return nest.map_structure(tensor, element)


def call(function: Callable[..., Any], element: Any) -> Any:
    """Calls a function of the program with an element: of a tuple, with its parts."""
    arguments = tensors(element)
    return function(*arguments) if isinstance(arguments, tuple) else function(arguments)


def as_nest(element: Any) -> Any:
    """Returns an element in which lists are arrays, as TensorFlow takes them."""
    if isinstance(element, list):
        return convert_to_tensor(element) if _has_tensors(element) else np.asarray(element)
    if isinstance(element, tuple):
        parts = [as_nest(part) for part in element]
        return type(element)(*parts) if hasattr(element, "_fields") else tuple(parts)
    if isinstance(element, dict):
        return {name: as_nest(part) for name, part in element.items()}
    return element


def _has_tensors(items: list[Any]) -> bool:
    return any(_has_tensors(x) if isinstance(x, list) else isinstance(x, Value) for x in items)


def array(leaf: Any) -> Any:
    """A leaf as an array."""
    return leaf if isinstance(leaf, Sequence) else np.asarray(leaf)


def array_of(leaf: Any, dtype: Any) -> Any:
    """A leaf as an array of a dtype."""
    return np.asarray(leaf, dtype.as_numpy_dtype)


def stack(parts: Any) -> Any:
    """Joins leaves along a new first axis."""
    if any(isinstance(part, Value) for part in parts):
        return convert_to_tensor(list(parts))
    return np.stack(parts)
