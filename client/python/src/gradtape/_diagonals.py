"""Diagonals of matrices, with TensorFlow's signatures (`tf.linalg.diag`).

Several diagonals at once, k = (lowest, highest), are the rows of a matrix, from the highest to the
lowest. Shorter ones are padded on the side that `align` says: "RIGHT_LEFT" aligns those above the
main one to the right and those below to the left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtape import _export, _ops
from gradtape.tensor import Tensor, Value, constant, convert, convert_to_tensor


def diag(
    diagonal: Any,
    name: str = "diag",
    k: Any = 0,
    num_rows: int = -1,
    num_cols: int = -1,
    padding_value: Any = 0,
    align: str = "RIGHT_LEFT",
) -> Tensor:
    """Matrices with the given diagonals.

    Args:
        diagonal: Tensor whose last axis is a diagonal, or whose last two are several.
        name: Ignored.
        k: The diagonal, 0 for the main one, positive above; or the lowest and the highest.
        num_rows: Rows of the matrices; as few as fit by default, and as many as columns if neither
            is given.
        num_cols: Columns of the matrices; as few as fit by default.
        padding_value: What is beside the diagonals.
        align: Side on which short diagonals end; see above.
    """
    diagonal = _value(diagonal)
    low, high = _bounds(k)
    longest = diagonal.shape[-1]
    rows, columns = _extents(low, high, longest, num_rows, num_cols)
    result = None
    for i, d in enumerate(range(high, low - 1, -1)):
        one = diagonal if low == high else diagonal[..., i, :]
        length = _length(rows, columns, d)
        start = 0 if _is_left(align, d) else longest - length
        part = one[..., start : start + length]
        matrix = _ops.diag(part, k=d, num_rows=rows, num_cols=columns)
        result = matrix if result is None else result + matrix
    if isinstance(padding_value, (int, float)) and padding_value == 0:
        return result  # type: ignore[return-value]
    places = np.arange(columns) - np.arange(rows)[:, None]
    on = constant((places >= low) & (places <= high))
    return _ops.where(on, result, convert(padding_value, diagonal._dtype))


def diag_part(
    input: Any,
    name: str = "diag_part",
    k: Any = 0,
    padding_value: Any = 0,
    align: str = "RIGHT_LEFT",
) -> Tensor:
    """Diagonals of matrices.

    Args:
        input: Tensor whose last two axes are matrices.
        name: Ignored.
        k: The diagonal, 0 for the main one, positive above; or the lowest and the highest.
        padding_value: What fills up short diagonals.
        align: Side on which short diagonals end; see above.
    """
    input = _value(input)
    low, high = _bounds(k)
    if low == high:
        return _ops.diag_part(input, k=low)
    rows, columns = input.shape[-2:]
    lengths = {d: _length(rows, columns, d) for d in range(low, high + 1)}
    longest = max(lengths.values())
    parts = []
    for d in range(high, low - 1, -1):
        missing = longest - lengths[d]
        sides = (0, missing) if _is_left(align, d) else (missing, 0)
        paddings = (0,) * (2 * (input.ndim - 2)) + sides
        part = _ops.diag_part(input, k=d)
        parts.append(_ops.pad(part, paddings=paddings, constant=float(padding_value)))
    return _ops.stack(parts, axis=-2)


def set_diag(
    input: Any, diagonal: Any, name: str = "set_diag", k: Any = 0, align: str = "RIGHT_LEFT"
) -> Tensor:
    """Matrices with other diagonals; the arguments are those of `diag`."""
    input, diagonal = _value(input), _value(diagonal)
    low, high = _bounds(k)
    if low == high:
        return _ops.set_diag(input, diagonal, k=low)
    rows, columns = input.shape[-2:]
    longest = diagonal.shape[-1]
    for i, d in enumerate(range(high, low - 1, -1)):
        length = _length(rows, columns, d)
        start = 0 if _is_left(align, d) else longest - length
        input = _ops.set_diag(input, diagonal[..., i, start : start + length], k=d)
    return input  # type: ignore[return-value]


def tensor_diag(diagonal: Any, name: str | None = None) -> Tensor:
    """A tensor of twice the rank with the given diagonal, and zeros elsewhere."""
    return _ops.tensor_diag(diagonal)


def tensor_diag_part(input: Any, name: str | None = None) -> Tensor:
    """The diagonal of a tensor whose first half of axes is like its second."""
    return _ops.tensor_diag_part(input)


def band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Tensor:
    """Matrices with zeros outside a band of so many diagonals; a negative number keeps all."""
    return _ops.band_part(input, num_lower=int(num_lower), num_upper=int(num_upper))


def _bounds(k: Any) -> tuple[int, int]:
    numbers = _export.integers(k)
    low, high = numbers[0], numbers[-1]
    if len(numbers) > 2 or low > high:
        raise ValueError(f"k must be a number, or the lowest and the highest, got {k}")
    return low, high


def _extents(low: int, high: int, longest: int, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of matrices with diagonals of which the longest is so long."""
    least_rows = longest + max(0, -high)
    least_columns = longest + max(0, low)
    if rows == columns == -1:
        side = max(least_rows, least_columns)
        return side, side
    return (least_rows if rows == -1 else rows), (least_columns if columns == -1 else columns)


def _length(rows: int, columns: int, d: int) -> int:
    """Length of a diagonal."""
    return min(rows + min(d, 0), columns - max(d, 0))


def _is_left(align: str, d: int) -> bool:
    if align not in ("LEFT_RIGHT", "RIGHT_LEFT", "LEFT_LEFT", "RIGHT_RIGHT"):
        raise ValueError(f"align must name two sides, as 'RIGHT_LEFT', got {align!r}")
    above, below = align.split("_")
    return (above if d >= 0 else below) == "LEFT"


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)
