"""Sparse gradients (`tf.IndexedSlices`)."""

from __future__ import annotations

from gradtape import _execute, _wire, dtypes
from gradtape.tensor import Tensor, constant


class IndexedSlices:
    """Rows of a larger tensor, and their numbers. A row may come more than once."""

    def __init__(
        self, values: Tensor, indices: Tensor, dense_shape: tuple[int, ...] | Tensor | None = None
    ) -> None:
        self._values = values
        self._indices = indices
        self._dense_shape = dense_shape

    @property
    def values(self) -> Tensor:
        """The rows."""
        return self._values

    @property
    def indices(self) -> Tensor:
        """The number of each row."""
        return self._indices

    @property
    def dense_shape(self) -> Tensor | None:
        """The shape of the tensor that the rows belong to."""
        if isinstance(self._dense_shape, tuple):
            return constant(self._dense_shape, dtypes.int64)
        return self._dense_shape

    @property
    def dtype(self) -> dtypes.DType:
        """The type of the elements."""
        return self._values.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that the rows belong to."""
        if self._dense_shape is None:
            raise ValueError("The dense shape is not known.")
        if isinstance(self._dense_shape, tuple):
            return self._dense_shape
        return tuple(self._dense_shape.numpy().tolist())

    def _as_tensor(self) -> Tensor:
        """Returns the dense tensor: the sum of the rows at their places."""
        rows = self.shape[0]
        one_hot = _execute.emit(
            _wire.template("one_hot", {"depth": rows, "dtype": self.dtype}, 1),
            (self._indices,),
            self.dtype,
        )
        count = self._indices.shape[0]
        flat = _execute.apply("reshape", (self._values,), {"shape": (count, -1)}, 0)
        dense = _execute.apply("matmul", (one_hot, flat), {"transpose_a": True}, 0)
        return _execute.apply("reshape", (dense,), {"shape": self.shape}, 0)

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(-self._values, self._indices, self._dense_shape)

    def __repr__(self) -> str:
        return (
            f"IndexedSlices(indices={self._indices!r}, values={self._values!r}, "
            f"dense_shape={self._dense_shape!r})"
        )
