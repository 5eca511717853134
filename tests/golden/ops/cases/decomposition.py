"""Decompositions of matrices, equations and determinants."""

import numpy as np
import scipy.special
import tensorflow as tf
from make import array, case, uniform

NAN = float("nan")
LOWER = [[2.0, NAN, NAN], [0.5, -1.5, NAN], [0.3, 0.7, 3.0]]
SINGULAR = [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]]


def matrix(shape, dtype="float32"):
    """Matrices with a dominant diagonal, so that singular values are far from each other."""

    def make(rng):
        values = rng.uniform(-0.5, 0.5, shape) + np.eye(*shape[-2:]) * (2.0 + 1.5 * np.arange(shape[-1]))
        return np.round(values, 3).astype(dtype)

    return make


def symmetric(shape, dtype="float32"):
    """The same, symmetric and so positive definite."""

    def make(rng):
        values = matrix(shape, "float64")(rng)
        return np.tril(values, 0).astype(dtype) + np.swapaxes(np.tril(values, -1), -1, -2).astype(dtype)

    return make


def oriented(vectors, by):
    """Vectors, as columns, with the sign that makes the component of largest magnitude in those of `by` positive."""
    largest = tf.gather(by, tf.argmax(tf.abs(by), -2), axis=-2, batch_dims=len(by.shape) - 2)
    return vectors * tf.stop_gradient(tf.expand_dims(tf.sign(tf.linalg.diag_part(largest)), -2))


def eigh(x):
    values, vectors = tf.linalg.eigh(x)
    return values, oriented(vectors, vectors)


def svd(x):
    s, u, v = tf.linalg.svd(x)
    by = u if x.shape[-2] < x.shape[-1] else v
    return s, oriented(u, by), oriented(v, by)


def cofactor(x):
    """Cofactors by their definition."""
    n = x.shape[-1]
    minors = [[np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(n)] for i in range(n)]
    return np.array(minors) * (-1.0) ** np.add.outer(np.arange(n), np.arange(n))


CASES = [
    case("cholesky", [symmetric([3, 3])], tf.linalg.cholesky),
    case("cholesky", [symmetric([2, 1, 4, 4], "float64")], tf.linalg.cholesky),
    case("cholesky", [uniform([2, 0, 0])], tf.linalg.cholesky),
    case("cholesky", [uniform([0, 2, 2])], tf.linalg.cholesky, gradients=False),
    case("triangular_solve", [array(LOWER), uniform([3, 2])], tf.linalg.triangular_solve),
    case("triangular_solve", [matrix([2, 3, 3], "float64"), uniform([3, 1], dtype="float64")], lambda a, b: tf.linalg.triangular_solve(a, b, lower=False, adjoint=True), lower=False, adjoint=True),
    case("triangular_solve", [matrix([2, 2]), uniform([3, 2, 2])], lambda a, b: tf.linalg.triangular_solve(a, b, adjoint=True), adjoint=True),
    case("triangular_solve", [matrix([2, 2]), uniform([2, 0])], tf.linalg.triangular_solve),
    case("solve", [matrix([3, 3]), uniform([3, 2])], tf.linalg.solve),
    case("solve", [matrix([2, 4, 4], "float64"), uniform([2, 4, 1], dtype="float64")], lambda a, b: tf.linalg.solve(a, b, adjoint=True), adjoint=True),
    # Rows must be exchanged.
    case("solve", [array([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0], [4.0, 1.0, 0.0]]), uniform([3, 2])], tf.linalg.solve),
    case("solve", [array([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0], [4.0, 1.0, 0.0]]), uniform([3, 2])], lambda a, b: tf.linalg.solve(a, b, adjoint=True), adjoint=True),
    case("solve", [uniform([0, 0]), uniform([0, 2])], tf.linalg.solve),
    # TensorFlow does not broadcast.
    case("solve", [matrix([2, 2]), uniform([3, 2, 2])], lambda a, b: tf.linalg.solve(tf.broadcast_to(a, [3, 2, 2]), b)),
    case("inv", [matrix([3, 3])], tf.linalg.inv),
    case("inv", [matrix([2, 2, 2], "float64")], lambda x: tf.linalg.inv(x, adjoint=True), adjoint=True),
    case("inv", [uniform([0, 0])], tf.linalg.inv),
    case("det", [matrix([3, 3])], tf.linalg.det),
    case("det", [uniform([2, 4, 4], dtype="float64")], tf.linalg.det),
    case("det", [uniform([1, 1])], tf.linalg.det),
    case("det", [uniform([2, 0, 0])], tf.linalg.det, gradients=False),
    # TensorFlow has no gradient where there is no inverse.
    case("det", [array(SINGULAR)], lambda x: x[..., 0, 0] * (x[1, 1] * x[2, 2] - x[1, 2] * x[2, 1]) - x[0, 1] * (x[1, 0] * x[2, 2] - x[1, 2] * x[2, 0]) + x[0, 2] * (x[1, 0] * x[2, 1] - x[1, 1] * x[2, 0])),
    case("cofactor", [uniform([4, 4], dtype="float64")], cofactor, by="numpy"),
    case("cofactor", [array(SINGULAR)], cofactor, by="numpy"),
    case("cofactor", [array([[0.0, 0.0], [0.0, 0.0]])], cofactor, by="numpy"),
    case("cofactor", [matrix([3, 3])], lambda x: tf.linalg.det(x) * tf.linalg.inv(x, adjoint=True)),
    case("slogdet", [matrix([3, 3])], tf.linalg.slogdet),
    case("slogdet", [uniform([2, 4, 4], dtype="float64")], tf.linalg.slogdet),
    case("slogdet", [array(SINGULAR)], tf.linalg.slogdet, gradients=False),
    case("slogdet", [uniform([2, 0, 0])], tf.linalg.slogdet, gradients=False),
    case("eigh", [symmetric([3, 3])], eigh),
    case("eigh", [symmetric([2, 5, 5], "float64")], eigh),
    case("eigh", [uniform([4, 4], dtype="float64")], eigh),
    case("eigh", [array([[2.0, 0.0], [0.0, -1.0]])], eigh),
    case("eigh", [uniform([2, 0, 0])], tf.linalg.eigh, gradients=False),
    case("svd", [matrix([3, 3])], svd),
    case("svd", [matrix([2, 4, 3], "float64")], svd),
    case("svd", [matrix([2, 3], "float64")], svd),
    case("svd", [uniform([5, 2], dtype="float64")], svd),
    case("svd", [array([[NAN, 1.0], [2.0, 3.0]])], tf.linalg.svd, gradients=False),
    case("svd", [uniform([3, 0])], lambda x: tf.linalg.svd(x, full_matrices=True), gradients=False, full_matrices=True),
    case("qr", [matrix([3, 3])], tf.linalg.qr),
    case("qr", [uniform([2, 4, 3], dtype="float64")], tf.linalg.qr),
    case("qr", [uniform([2, 4], dtype="float64")], tf.linalg.qr),
    case("qr", [uniform([4, 2])], lambda x: tf.linalg.qr(x, full_matrices=True), gradients=False, full_matrices=True),
    case("qr", [array([[-1.0, 0.0], [0.0, -1.0]])], tf.linalg.qr),
    case("qr", [uniform([3, 0])], lambda x: tf.linalg.qr(x, full_matrices=True), gradients=False, full_matrices=True),
    case("qr", [uniform([0, 3, 2])], tf.linalg.qr, gradients=False),
    # Ill-conditioned: the matrix of Hilbert, whose inverse has whole numbers.
    case("inv", [array(1.0 / (np.add.outer(np.arange(5), np.arange(5)) + 1.0), "float64")], lambda _: np.array([[(-1.0) ** (i + j) * (i + j + 1) * scipy.special.comb(i + 5, 4 - j) * scipy.special.comb(j + 5, 4 - i) * scipy.special.comb(i + j, i) ** 2 for j in range(5)] for i in range(5)]), by="numpy", tolerance=1e-8),
]
