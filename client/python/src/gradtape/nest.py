"""Nested structures of lists, tuples, named tuples and dictionaries (`tf.nest`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def is_nested(structure: Any) -> bool:
    """Says whether `structure` is a container rather than a leaf."""
    return isinstance(structure, (list, tuple, Mapping))


def flatten(structure: Any) -> list[Any]:
    """Returns the leaves in order; dictionaries are ordered by their keys."""
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in flatten(item)]
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in flatten(structure[key])]
    return [structure]


def pack_sequence_as(structure: Any, flat_sequence: list[Any]) -> Any:
    """Arranges the leaves of `flat_sequence` as those of `structure` are arranged."""
    leaves = iter(flat_sequence)
    packed = _pack(structure, leaves)
    if next(leaves, _END) is not _END:
        raise ValueError("The flat sequence has more items than the structure.")
    return packed


def map_structure(func: Callable[..., Any], *structures: Any) -> Any:
    """Applies `func` to the corresponding leaves of all structures."""
    columns = [flatten(structure) for structure in structures]
    if len({len(column) for column in columns}) != 1:
        raise ValueError("The structures do not have the same number of items.")
    return pack_sequence_as(structures[0], [func(*row) for row in zip(*columns, strict=True)])


_END = object()


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, Mapping):
        packed = {key: _pack(structure[key], leaves) for key in sorted(structure)}
        return type(structure)((key, packed[key]) for key in structure)  # type: ignore[call-arg]
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_pack(item, leaves) for item in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(_pack(item, leaves) for item in structure)
    leaf = next(leaves, _END)
    if leaf is _END:
        raise ValueError("The flat sequence has fewer items than the structure.")
    return leaf
