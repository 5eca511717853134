"""Nests of lists, tuples and dictionaries (`keras.tree`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradtape import nest
from gradtape.nest import flatten, is_nested


def map_structure(func: Callable[..., Any], *structures: Any, none_is_leaf: bool = True) -> Any:
    """Applies a function to the corresponding leaves of nests."""
    if none_is_leaf:
        return nest.map_structure(func, *structures)

    def apply(*leaves: Any) -> Any:
        return None if leaves[0] is None else func(*leaves)

    return nest.map_structure(apply, *structures)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """Arranges leaves as those of a nest are arranged."""
    return nest.pack_sequence_as(structure, list(flat_sequence))


__all__ = ["flatten", "is_nested", "map_structure", "pack_sequence_as"]
