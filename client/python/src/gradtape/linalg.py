"""Matrices (`tf.linalg`)."""

from __future__ import annotations

import operator
import string
from typing import TYPE_CHECKING, Any

from gradtape import _execute, _export, _ops
from gradtape._decompositions import (
    cholesky_solve,
    eigh,
    eigvalsh,
    expm,
    logdet,
    lstsq,
    matrix_rank,
    pinv,
    qr,
    slogdet,
    svd,
)
from gradtape._diagonals import band_part, diag, diag_part, set_diag, tensor_diag, tensor_diag_part
from gradtape._norms import global_norm, l2_normalize, norm, normalize
from gradtape.array_ops import expand_dims, eye, pad, squeeze
from gradtape.tensor import Tensor, Value, cast, convert_to_tensor

if TYPE_CHECKING:

    def __getattr__(name): ...


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    output_type: Any = None,
    grad_a: bool = False,
    grad_b: bool = False,
    name: str | None = None,
) -> Tensor:
    """Matrix product over the last two axes; the other axes broadcast.

    Args:
        a: Tensor of two or more dimensions.
        b: Tensor of two or more dimensions.
        transpose_a: Whether to swap the last two axes of `a`.
        transpose_b: Whether to swap the last two axes of `b`.
        adjoint_a: The same as `transpose_a`: the elements are real.
        adjoint_b: The same as `transpose_b`.
        a_is_sparse: Ignored.
        b_is_sparse: Ignored.
        output_type: Dtype in which the product is computed and returned.
        grad_a: Ignored.
        grad_b: Ignored.
        name: Ignored.
    """
    if output_type is not None:
        a, b = cast(a, output_type), cast(b, output_type)
    if (transpose_a and adjoint_a) or (transpose_b and adjoint_b):
        raise ValueError("Only one of transpose and adjoint can be True for each input.")
    return _ops.matmul(
        a, b, transpose_a=transpose_a or adjoint_a, transpose_b=transpose_b or adjoint_b
    )


def einsum(equation: str, *inputs: Any, **kwargs: Any) -> Tensor:
    """Sum of products of tensors with named axes, by Einstein's convention.

    Args:
        equation: A letter for each axis, inputs separated by commas, then "->" and the axes of the
            result: "ij,jk->ik" is a matrix product. "..." stands for axes that broadcast.
        *inputs: The tensors.
        **kwargs: `optimize` and `name`, which are ignored.
    """
    unknown = kwargs.keys() - {"optimize", "name"}
    if unknown:
        raise TypeError(f"Invalid keyword arguments for this function: {', '.join(unknown)}")
    return _ops.einsum(inputs, equation=equation)


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """Sum of products over pairs of axes.

    Args:
        a: A tensor.
        b: A tensor.
        axes: How many of the last axes of `a` meet as many of the first of `b`, or two lists of
            axes (or two axes).
        name: Ignored.
    """
    a = a if isinstance(a, Value) else convert_to_tensor(a)
    b = b if isinstance(b, Value) else convert_to_tensor(b)
    if hasattr(axes, "__index__"):
        count = operator.index(axes)
        pairs = list(zip(range(a.ndim - count, a.ndim), range(count), strict=True))
    else:
        of_a, of_b = map(_export.integers, axes)
        if len(of_a) != len(of_b):
            raise ValueError(f"'axes' must have as many axes of `a` as of `b`, got {axes}")
        pairs = [(i % a.ndim, j % b.ndim) for i, j in zip(of_a, of_b, strict=True)]
    letters = iter(string.ascii_letters)
    labels_a = [next(letters) for _ in range(a.ndim)]
    labels_b = [next(letters) for _ in range(b.ndim)]
    for i, j in pairs:
        labels_b[j] = labels_a[i]
    shared = {labels_a[i] for i, _ in pairs}
    output = [label for label in labels_a + labels_b if label not in shared]
    return einsum("".join([*labels_a, ",", *labels_b, "->", *output]), a, b)


def matvec(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    adjoint_a: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """Product of matrices and vectors; the arguments are those of `matmul`."""
    return squeeze(matmul(a, expand_dims(b, -1), transpose_a or adjoint_a), axis=-1)


def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Tensor:
    """Swaps the last two axes."""
    a = a if isinstance(a, Value) else convert_to_tensor(a)
    if a.ndim < 2:
        raise ValueError(
            f"Argument `a` should be a (batch) matrix with rank >= 2. Received: {a.shape}"
        )
    *batch, rows, columns = range(a.ndim)
    return _ops.transpose(a, perm=(*batch, columns, rows))


def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """Swaps the last two axes: the elements are real."""
    return matrix_transpose(matrix)


def cross(a: Any, b: Any, name: str | None = None) -> Tensor:
    """Cross products of vectors of three elements, along the last axis."""
    a, b = _execute.as_values((a, b))
    x, y = (_ops.roll(v, shift=(-1,), axis=(-1,)) for v in (a, b))
    return _ops.roll(_ops.multiply(a, y) - _ops.multiply(x, b), shift=(-1,), axis=(-1,))


def tridiagonal_matmul(
    diagonals: Any, rhs: Any, diagonals_format: str = "compact", name: str | None = None
) -> Tensor:
    """Product of tridiagonal matrices and others.

    Args:
        diagonals: The three diagonals, from above to below. "compact": one tensor [..., 3, n];
            "sequence": a list of three tensors [..., n]. The last element of the one above and the
            first of the one below are not used. "matrix": whole matrices.
        rhs: Tensor [..., n, m].
        diagonals_format: "compact", "sequence" or "matrix".
        name: Ignored.
    """
    if diagonals_format == "compact":
        above, main, below = (diagonals[..., i, :] for i in range(3))
    elif diagonals_format == "sequence":
        above, main, below = diagonals
    elif diagonals_format == "matrix":
        edge = ((0, 0),) * (len(diagonals.shape) - 2)
        above = pad(diag_part(diagonals, k=1), (*edge, (0, 1)))
        main = diag_part(diagonals)
        below = pad(diag_part(diagonals, k=-1), (*edge, (1, 0)))
    else:
        raise ValueError(
            f"diagonals_format must be compact, sequence or matrix, got {diagonals_format}"
        )
    before, after = (((0, 0),) * (len(rhs.shape) - 2) + (p, (0, 0)) for p in ((1, 0), (0, 1)))
    above, main, below = (expand_dims(d, -1) for d in (above, main, below))
    up, down = pad(rhs[..., 1:, :], after), pad(rhs[..., :-1, :], before)
    return above * up + main * rhs + below * down


__all__ = [
    "adjoint", "band_part", "cholesky_solve", "cross", "diag", "diag_part", "eigh", "eigvalsh",
    "einsum", "expm", "eye", "global_norm", "l2_normalize", "logdet", "lstsq", "matrix_rank",
    "matrix_transpose", "matvec", "norm", "normalize", "pinv", "qr", "set_diag", "slogdet", "svd",
    "tensor_diag", "tensor_diag_part", "tensordot", "tridiagonal_matmul",
]  # fmt: skip
__all__ += _export.export(globals(), "linalg")
