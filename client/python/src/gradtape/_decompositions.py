"""Decompositions of matrices and what is solved with them (`tf.linalg`)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from gradtape import _ops, dtypes
from gradtape.array_ops import eye
from gradtape.tensor import Tensor, Value, cast, convert_to_tensor


class Qr(NamedTuple):
    """Factors of matrices: orthonormal columns, and upper triangular matrices."""

    q: Tensor
    r: Tensor


class LogMatrixDeterminant(NamedTuple):
    """Determinants: their signs, and the logarithms of their absolute values."""

    sign: Tensor
    log_abs_determinant: Tensor


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> Qr:
    """Factors of matrices: `input = q r`, with LAPACK's signs.

    Args:
        input: Tensor of two or more dimensions.
        full_matrices: Whether `q` is square, and not only as wide as the shorter side.
        name: Ignored.
    """
    return Qr(*_ops.qr(input, full_matrices=full_matrices))


def slogdet(input: Any, name: str | None = None) -> LogMatrixDeterminant:
    """Signs of determinants, and logarithms of their absolute values."""
    return LogMatrixDeterminant(*_ops.slogdet(input))


def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """Logarithms of the determinants of symmetric positive definite matrices."""
    diagonal = _ops.diag_part(_ops.cholesky(matrix))
    return _ops.reduce_sum(_ops.log(diagonal), axis=(-1,)) * 2.0


def eigh(tensor: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues of symmetric matrices from the smallest up, and eigenvectors as columns.

    In each vector the component of largest magnitude is positive.
    """
    values, vectors = _ops.eigh(tensor)
    return values, vectors


def eigvalsh(tensor: Any, name: str | None = None) -> Tensor:
    """Eigenvalues of symmetric matrices, from the smallest up."""
    return eigh(tensor)[0]


def svd(
    tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None
) -> Any:
    """Singular values from the largest down, and singular vectors as columns.

    Args:
        tensor: Tensor of two or more dimensions.
        full_matrices: Whether the vectors are square matrices, and not only as wide as the shorter
            side.
        compute_uv: Whether the vectors are wanted.
        name: Ignored.

    Returns:
        `s, u, v` with `tensor = u diag(s) v^T`, or `s` alone.
    """
    s, u, v = _ops.svd(tensor, full_matrices=full_matrices)
    return (s, u, v) if compute_uv else s


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """Solves `a y = rhs`, given the Cholesky factor of `a`."""
    return _ops.triangular_solve(chol, _ops.triangular_solve(chol, rhs), adjoint=True)


def lstsq(
    matrix: Any,
    rhs: Any,
    l2_regularizer: float = 0.0,
    fast: bool = True,
    name: str | None = None,
) -> Tensor:
    """Solves equations as well as possible, with the least sum of squares.

    Args:
        matrix: Tensor of two or more dimensions.
        rhs: Right-hand sides, as columns.
        l2_regularizer: Factor of the squares of the solution, which are kept small too.
        fast: Whether to square the matrix, which must be of full rank and not too badly
            conditioned; otherwise the smallest of all solutions is found through singular values,
            and `l2_regularizer` is ignored.
        name: Ignored.
    """
    matrix = _value(matrix)
    if not fast:
        return _ops.matmul(pinv(matrix), rhs)
    rows, columns = matrix.shape[-2:]
    is_tall = rows >= columns
    square = _ops.matmul(matrix, matrix, transpose_a=is_tall, transpose_b=not is_tall)
    if l2_regularizer:
        square = square + l2_regularizer * eye(min(rows, columns), dtype=matrix.dtype)
    chol = _ops.cholesky(square)
    if is_tall:
        return cholesky_solve(chol, _ops.matmul(matrix, rhs, transpose_a=True))
    return _ops.matmul(matrix, cholesky_solve(chol, rhs), transpose_a=True)


def pinv(
    a: Any, rcond: Any = None, validate_args: bool = False, name: str | None = None
) -> Tensor:
    """Pseudoinverses, by singular values.

    Args:
        a: Tensor of two or more dimensions.
        rcond: Singular values up to this share of the largest count as zero; by default ten times
            the longer side times the precision of the dtype.
        validate_args: Ignored: the server checks.
        name: Ignored.
    """
    a = _value(a)
    if rcond is None:
        rcond = 10.0 * max(a.shape[-2:]) * _precision(a.dtype)
    s, u, v = _ops.svd(a)
    bound = _ops.reduce_max(s, axis=(-1,), keepdims=True) * _ops.expand_dims(
        convert_to_tensor(rcond, a.dtype), axis=-1
    )
    inverse = _ops.where(_ops.greater(s, bound), s, _ops.ones_like(s) * math.inf)
    return _ops.matmul(_ops.divide(v, _ops.expand_dims(inverse, axis=-2)), u, transpose_b=True)


def matrix_rank(
    a: Any, tol: Any = None, validate_args: bool = False, name: str | None = None
) -> Tensor:
    """Numbers of singular values above `tol`.

    Args:
        a: Tensor of two or more dimensions.
        tol: The bound; by default the largest singular value times the longer side times the
            precision of the dtype.
        validate_args: Ignored: the server checks.
        name: Ignored.
    """
    a = _value(a)
    s = _ops.svd(a)[0]
    if tol is None:
        largest = _ops.reduce_max(s, axis=(-1,), keepdims=True)
        tol = largest * (max(a.shape[-2:]) * _precision(a.dtype))
    return _ops.reduce_sum(cast(_ops.greater(s, tol), dtypes.int32), axis=(-1,))


# Coefficients of the approximation of exp by a quotient of polynomials, and the norm up to which it
# is good to double precision (Higham 2005).
_PADE = [
    math.comb(13, k) * math.factorial(26 - k) / math.factorial(26) for k in range(14)
]
_PADE_NORM = 5.371920351148152
# So many squarings serve norms up to five million.
_SQUARINGS = 20


def expm(input: Any, name: str | None = None) -> Tensor:
    """Exponentials of square matrices, by scaling and squaring (Higham 2005)."""
    a = _value(input)
    one = eye(a.shape[-1], dtype=a.dtype)
    norm = _ops.reduce_max(_ops.reduce_sum(_ops.abs(a), axis=(-2,)), axis=(-1,))
    squarings = _ops.ceil(_ops.log(_ops.maximum(norm / _PADE_NORM, 1.0)) / math.log(2.0))
    squarings = _ops.stop_gradient(squarings)[..., None, None]
    a = a / _ops.pow(2.0 * _ops.ones_like(squarings), squarings)
    square = _ops.matmul(a, a)
    powers = [one, square]
    for _ in range(5):
        powers.append(_ops.matmul(powers[-1], square))
    even = _sum(powers, _PADE[0::2])
    odd = _ops.matmul(a, _sum(powers, _PADE[1::2]))
    result = _ops.solve(even - odd, even + odd)
    for i in range(_SQUARINGS):
        more = _ops.greater(squarings, float(i))
        # Zeros where there is nothing to do: a square that is not wanted could overflow, and its
        # derivative be NaN.
        factor = _ops.where(more, result, _ops.zeros_like(result))
        result = _ops.where(more, _ops.matmul(factor, factor), result)
    return result


def _sum(powers: list[Any], coefficients: list[float]) -> Any:
    total = powers[0] * coefficients[0]
    for power, coefficient in zip(powers[1:], coefficients[1:], strict=True):
        total = total + power * coefficient
    return total


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)


def _precision(dtype: Any) -> float:
    return float(np.finfo(dtype.as_numpy_dtype).eps)
