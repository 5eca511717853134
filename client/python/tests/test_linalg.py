"""Matrices that have no decomposition or no inverse, and what TensorFlow has no numbers for."""

from __future__ import annotations

import numpy as np
import pytest

import gradtape as tf

SINGULAR = [[1.0, 2.0], [2.0, 4.0]]


@pytest.mark.parametrize("solve", [tf.linalg.inv, lambda a: tf.linalg.solve(a, a)])
def test_a_singular_matrix_has_no_inverse(solve: object) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="matrix 1 is not invertible"):
        solve(tf.constant([[[1.0, 0.0], [0.0, 1.0]], SINGULAR])).numpy()


@pytest.mark.parametrize("corner", [1.0, -3.0, np.nan])
def test_only_positive_definite_matrices_have_a_cholesky_factor(corner: float) -> None:
    message = "Cholesky decomposition was not successful"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf.linalg.cholesky([[corner, 2.0], [2.0, 1.0]]).numpy()


def test_nan_has_no_eigenvalues_and_nan_for_singular_values() -> None:
    matrix = tf.constant([[np.nan, 1.0], [1.0, 2.0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="was not successful"):
        tf.linalg.eigvalsh(matrix).numpy()
    assert np.isnan(tf.linalg.svd(matrix)[0].numpy()).all()


def test_the_determinant_of_a_singular_matrix_has_its_cofactors_as_gradient() -> None:
    x = tf.Variable(SINGULAR)
    with tf.GradientTape() as tape:
        determinant = tf.linalg.det(x)
    np.testing.assert_allclose(tape.gradient(determinant, x), [[4, -2], [-2, 1]], atol=1e-5)


def test_the_jacobian_of_an_inverse_is_its_formula() -> None:
    x = tf.Variable([[2.0, 1.0], [0.5, 3.0]])
    with tf.GradientTape() as tape:
        inverse = tf.linalg.inv(x)
    y = inverse.numpy()
    expected = -np.einsum("ik,lj->ijkl", y, y)
    np.testing.assert_allclose(tape.jacobian(inverse, x), expected, atol=1e-6)


def test_least_squares_of_a_singular_matrix_have_the_smallest_solution() -> None:
    rhs = np.array([[1.0], [3.0]], np.float32)
    found = tf.linalg.lstsq(tf.constant(SINGULAR), rhs, fast=False)
    np.testing.assert_allclose(found, np.linalg.lstsq(SINGULAR, rhs, rcond=None)[0], atol=1e-5)


def test_full_factors_complete_the_basis() -> None:
    x = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 1.0], [0.0, 2.0]], np.float32)
    _, u, v = tf.linalg.svd(x, full_matrices=True)
    q, _ = tf.linalg.qr(x, full_matrices=True)
    for factor in (u, v, q):
        size = factor.shape[0]
        product = tf.matmul(factor, factor, transpose_a=True)
        np.testing.assert_allclose(product, np.eye(size), atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (2, 2, 5)])
def test_orthogonal_weights_are_orthogonal(shape: tuple[int, ...]) -> None:
    weights = tf.keras.initializers.Orthogonal(gain=2.0, seed=1)(shape).numpy()
    matrix = weights.reshape(-1, shape[-1])
    short = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(short, 4.0 * np.eye(len(short)), atol=1e-5)


def test_partitions_and_places_are_checked() -> None:
    with pytest.raises(ValueError, match="partitions"):
        tf.dynamic_partition([1.0, 2.0], [0, 2], 2)
    with pytest.raises(ValueError, match="partitions"):
        tf.dynamic_partition([1.0, 2.0], [0], 2)
    with pytest.raises(ValueError, match="indices"):
        tf.dynamic_stitch([[0, -1]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="indices"):
        tf.dynamic_stitch([[0, 1]], [[1.0]])


def test_labels_that_do_not_fit_have_an_infinite_loss_and_no_gradient() -> None:
    logits = tf.Variable(np.zeros((2, 1, 3), np.float32))
    with tf.GradientTape() as tape:
        loss = tf.nn.ctc_loss([[1, 2, 1]], logits, [3], [2])
    assert np.isinf(loss.numpy()).all()
    assert (tape.gradient(loss, logits).numpy() == 0).all()
