"""Shapes, and what tensors are like (`tf.TensorShape`, `tf.TensorSpec`)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gradtape import dtypes


class TensorShape(tuple):  # type: ignore[type-arg]
    """The extents of a tensor, outermost first. All are known; other shapes may have None."""

    __slots__ = ()

    def __new__(cls, dims: Iterable[int | None] = ()) -> TensorShape:  # noqa: D102
        return super().__new__(cls, dims)

    @property
    def dims(self) -> list[int | None]:
        """The extents as a list."""
        return list(self)

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
        """Says whether all extents are known."""
        return None not in self

    def is_compatible_with(self, other: Any) -> bool:
        """Says whether a tensor could have both shapes."""
        if other is None:
            return True
        other = tuple(other)
        return len(self) == len(other) and all(
            a is None or b is None or a == b for a, b in zip(self, other, strict=True)
        )

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises ValueError unless a tensor could have both shapes."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {other} are incompatible")

    def merge_with(self, other: Any) -> TensorShape:
        """Returns the shape that is known from both."""
        self.assert_is_compatible_with(other)
        if other is None:
            return self
        return TensorShape(b if a is None else a for a, b in zip(self, other, strict=True))

    def concatenate(self, other: Any) -> TensorShape:
        """Returns the extents of this shape, and then those of another."""
        return TensorShape((*self, *other))

    def assert_has_rank(self, rank: int) -> None:
        """Raises ValueError unless there are so many dimensions."""
        if len(self) != rank:
            raise ValueError(f"Shape {self} must have rank {rank}")

    def with_rank(self, rank: int) -> TensorShape:
        """Returns the shape, or raises ValueError unless there are so many dimensions."""
        self.assert_has_rank(rank)
        return self

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return TensorShape(found) if isinstance(key, slice) else found

    def __repr__(self) -> str:
        return f"TensorShape({list(self)})"

    def __str__(self) -> str:
        return f"({', '.join(map(str, self))}{',' if len(self) == 1 else ''})"


class TensorSpec:
    """What a tensor is like (`tf.TensorSpec`): as an `input_signature`, or of a dataset's elements.

    Args:
        shape: Extents, of which those that are not known are None; None if the rank is not known.
        dtype: Element type.
        name: Name for people.
    """

    def __init__(self, shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> None:
        self.shape = None if shape is None else tuple(shape)
        self.dtype = dtypes.as_dtype(dtype)
        self.name = name

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """Returns what a tensor is like."""
        return cls(tensor.shape, tensor.dtype, name)

    def is_compatible_with(self, other: Any) -> bool:
        """Says whether a tensor, or what another specification describes, is like this."""
        if other.dtype is not self.dtype:
            return False
        if self.shape is None or other.shape is None:
            return True
        return len(self.shape) == len(other.shape) and all(
            a is None or b is None or a == b for a, b in zip(self.shape, other.shape, strict=True)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorSpec) and (self.shape, self.dtype) == (
            other.shape,
            other.dtype,
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype!r}, name={self.name!r})"
