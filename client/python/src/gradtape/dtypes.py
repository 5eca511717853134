"""Element types (`tf.float32` and its kin) and what Python and NumPy values become."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from gradtape._proto.tensor_pb2 import TensorSpec as TensorSpecProto


def is_floating(dtype: np.dtype[Any]) -> builtins.bool:
    """Whether a NumPy dtype is a floating-point one; NumPy does not know that `bfloat16` is."""
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


class DType:
    """The type of a tensor's elements. There is one object for each type: compare with `is`."""

    __slots__ = ("as_numpy_dtype", "is_bool", "is_floating", "is_integer", "name", "number", "size")

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.as_numpy_dtype: np.dtype[Any] = np.dtype(name).newbyteorder("<")
        self.size = self.as_numpy_dtype.itemsize
        self.is_floating = is_floating(self.as_numpy_dtype)
        self.is_integer = self.as_numpy_dtype.kind == "i"
        self.is_bool = self.as_numpy_dtype.kind == "b"

    @property
    def base_dtype(self) -> DType:
        """The type itself: there are no reference types."""
        return self

    @property
    def max(self) -> Any:
        """The largest finite value."""
        info = ml_dtypes.finfo if self.is_floating else np.iinfo
        return info(self.as_numpy_dtype).max

    @property
    def min(self) -> Any:
        """The lowest finite value."""
        info = ml_dtypes.finfo if self.is_floating else np.iinfo
        return info(self.as_numpy_dtype).min

    def __eq__(self, other: object) -> builtins.bool:
        if self is other:
            return True
        try:
            return as_dtype(other) is self
        except TypeError:
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    def __repr__(self) -> str:
        return f"tf.{self.name}"

    def __str__(self) -> str:
        return f"<dtype: '{self.name}'>"


float32 = DType("float32", 1)
float64 = DType("float64", 2)
int32 = DType("int32", 3)
int64 = DType("int64", 4)
bool = DType("bool", 5)
float16 = DType("float16", 6)
bfloat16 = DType("bfloat16", 7)
double = float64
half = float16

ALL = (float32, float64, int32, int64, bool, float16, bfloat16)
BY_NUMBER = {dtype.number: dtype for dtype in ALL}
_BY_NAME = {dtype.name: dtype for dtype in ALL} | {
    "float": float32,
    "double": float64,
    "half": float16,
}
_BY_TYPE: dict[type, DType] = {float: float32, int: int32, builtins.bool: bool}


def as_dtype(type_value: Any) -> DType:
    """Converts a name, a NumPy dtype or a Python type to a `DType`."""
    if isinstance(type_value, DType):
        return type_value
    try:
        found = _BY_TYPE.get(type_value) if isinstance(type_value, type) else None
        found = found or _BY_NAME.get(
            type_value if isinstance(type_value, str) else np.dtype(type_value).name
        )
    except TypeError:
        found = None
    if found is None:
        raise TypeError(
            f"Cannot convert the argument {type_value!r} to a dtype; this service has "
            + ", ".join(dtype.name for dtype in ALL)
        )
    return found


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """Converts the elements of a tensor to another dtype."""
    from gradtape import tensor  # It uses this module.

    return tensor.cast(x, dtype)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Any:
    """Converts elements to another dtype; what does not fit becomes the nearest that does."""
    from gradtape import array_ops

    return array_ops.saturate_cast(value, dtype)


def spec_text(spec: TensorSpecProto) -> str:
    """Writes dtype and shape as in `float32[2,3]`."""
    dtype = BY_NUMBER.get(spec.dtype)
    return f"{dtype.name if dtype else '?'}[{','.join(map(str, spec.shape))}]"
