"""Shapes (`tf.TensorShape`)."""

from __future__ import annotations

import math
from typing import Any


class TensorShape(tuple):  # type: ignore[type-arg]
    """The extents of a tensor, outermost first. All are known."""

    __slots__ = ()

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self)

    @property
    def ndims(self) -> int:
        """The number of dimensions."""
        return len(self)

    def as_list(self) -> list[int]:
        """Returns the extents as a list."""
        return list(self)

    def num_elements(self) -> int:
        """Returns the number of elements."""
        return math.prod(self)

    def is_fully_defined(self) -> bool:
        """Says that all extents are known."""
        return True

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return TensorShape(found) if isinstance(key, slice) else found

    def __repr__(self) -> str:
        return f"TensorShape({list(self)})"

    def __str__(self) -> str:
        return f"({', '.join(map(str, self))}{',' if len(self) == 1 else ''})"
