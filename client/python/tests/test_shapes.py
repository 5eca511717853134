"""Shapes of computed tensors: asked for once for each derivation, and never wrong."""

from __future__ import annotations

import numpy as np
import pytest

import gradtape as tf
from gradtape import _form
from gradtape._session import Session


@pytest.fixture
def calls(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever the program asks the server for something."""
    seen: list[int] = []
    call = session.call

    def counting(kind: int, *args: object) -> object:
        seen.append(kind)
        return call(kind, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "call", counting)
    return seen


def test_a_loop_asks_for_each_shape_in_its_first_step_only(calls: list[int]) -> None:
    x = tf.Variable(np.ones((4, 6), np.float32))
    for step in range(5):
        hidden = tf.matmul(x, x, transpose_b=True)
        assert hidden.shape == (4, 4)
        left, right = tf.split(tf.nn.dropout(tf.nn.relu(hidden), 0.5), 2, axis=1)
        assert (left.shape, right.shape) == ((4, 2), (4, 2))
        if step == 0:
            asked = len(calls)
    assert asked > 0
    assert len(calls) == asked


def test_another_shape_or_attribute_is_another_derivation(calls: list[int]) -> None:
    for rows in (2, 3, 2):
        x = tf.constant(np.ones((rows, 6), np.float32))
        assert tf.reshape(x, (3, -1)).shape == (3, 2 * rows)
        assert tf.reshape(x, (-1, 3)).shape == (2 * rows, 3)
    assert len(calls) == 4


def test_a_gradient_has_the_shape_of_its_source(calls: list[int]) -> None:
    x = tf.Variable(np.ones((2, 3), np.float32))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(x * x)
    gradient = tape.gradient(y, x)
    del calls[:]
    assert gradient.shape == (2, 3)
    assert not calls


def test_forms_are_forgotten_before_they_fill_the_memory(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_form, "_MOST_FORMS", 10)
    x = tf.ones((3,))
    for _ in range(50):
        x = tf.sin(x)
    assert len(_form._forms) <= 10
    assert x.shape == (3,)


def test_a_failed_operation_has_no_shape() -> None:
    wrong = tf.matmul(tf.ones((2, 3)), tf.ones((2, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        _ = wrong.shape
    tf.clear_errors()
    with pytest.raises(tf.errors.InvalidArgumentError):
        _ = tf.matmul(tf.ones((2, 3)), tf.ones((2, 3))).shape
