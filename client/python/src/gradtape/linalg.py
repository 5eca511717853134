"""Matrices (`tf.linalg`)."""

from __future__ import annotations

import math
import operator
import string
from typing import TYPE_CHECKING, Any

from gradtape import _export, _ops
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
from gradtape.array_ops import expand_dims, eye, squeeze
from gradtape.math import reduce_max, reduce_sum
from gradtape.tensor import Tensor, Value, convert_to_tensor

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
        output_type: Not supported.
        grad_a: Ignored.
        grad_b: Ignored.
        name: Ignored.
    """
    if output_type is not None:
        raise NotImplementedError("tf.matmul has no output_type here yet; use tf.cast.")
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


def norm(
    tensor: Any,
    ord: str | float = "euclidean",
    axis: int | None = None,
    keepdims: bool | None = None,
    name: str | None = None,
) -> Tensor:
    """Norm of vectors along an axis, or of all elements.

    Args:
        tensor: The vectors.
        ord: "euclidean", or the p of a p-norm; infinity for the largest magnitude.
        axis: The axis; all elements together by default.
        keepdims: Whether the axis stays, with extent 1.
        name: Ignored.
    """
    if axis is not None and not hasattr(axis, "__index__"):
        raise NotImplementedError("tf.norm has no norms of matrices here yet.")
    keep = bool(keepdims)
    if ord in ("euclidean", 2):
        return _ops.sqrt(reduce_sum(_ops.square(tensor), axis, keep))
    magnitudes = _ops.abs(tensor)
    if ord == 1:
        return reduce_sum(magnitudes, axis, keep)
    if ord == math.inf:
        return reduce_max(magnitudes, axis, keep)
    if isinstance(ord, str) or ord <= 0:
        raise ValueError(f"'ord' must be a supported vector norm, got {ord!r}")
    return _ops.pow(reduce_sum(_ops.pow(magnitudes, ord), axis, keep), 1.0 / ord)


__all__ = [
    "cholesky_solve",
    "eigh",
    "eigvalsh",
    "einsum",
    "expm",
    "eye",
    "logdet",
    "lstsq",
    "matrix_rank",
    "matrix_transpose",
    "matvec",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "svd",
    "tensordot",
]
__all__ += _export.export(globals(), "linalg")
