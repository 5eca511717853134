"""The rules of a tape as a Python program sees them.

The numbers are TensorFlow's, or small enough to see.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

import gradtape as tf


def tolist(nest):
    """Gradients as plain numbers."""
    if isinstance(nest, dict):
        return {key: tolist(value) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return type(nest)(map(tolist, nest))
    return None if nest is None else nest.numpy().tolist()


# === Life of a tape ===


def test_entering_twice_is_an_error_and_the_tape_goes_on() -> None:
    x = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        with pytest.raises(ValueError, match="still recording"), tape:
            pass
        y = x * x
    assert tolist(tape.gradient(y, x)) == 6.0


def test_entering_again_continues_the_trace() -> None:
    x = tf.constant(2.0)
    tape = tf.GradientTape()
    with tape:
        tape.watch(x)
        y = x * x
    unseen = y * 10.0
    with tape:
        z = y * y
    assert tolist(tape.gradient(z, [x])) == [32.0]
    assert unseen.numpy() == 40.0


def test_operations_between_the_blocks_are_not_recorded() -> None:
    x = tf.constant(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    between = y * 3.0
    with tape:
        z = between * x
    assert tolist(tape.gradient(z, x)) == 12.0
    assert tape.gradient(between, x) is None


def test_a_used_one_shot_tape_begins_anew() -> None:
    x = tf.constant(3.0)
    tape = tf.GradientTape()
    for _ in range(2):
        with tape:
            tape.watch(x)
            y = x * x * 2.0
        assert tolist(tape.gradient(y, x)) == 12.0


def test_one_shot_tape_stops_at_its_gradient() -> None:
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        assert tolist(tape.gradient(y, x)) == 6.0
        with pytest.raises(RuntimeError, match="non-persistent"):
            tape.gradient(y, x)


def test_gradient_of_a_tape_that_never_ran() -> None:
    x = tf.constant(3.0)
    with pytest.raises(RuntimeError, match="non-persistent"):
        tf.GradientTape().gradient(x, x)


def test_an_exception_leaves_the_tape_usable() -> None:
    x = tf.constant(2.0)
    tape = tf.GradientTape()
    with pytest.raises(KeyError), tape:
        tape.watch(x)
        y = x * x
        raise KeyError
    assert tolist(tape.gradient(y, x)) == 4.0


def test_tapes_are_a_set_and_not_a_stack() -> None:
    x = tf.Variable(2.0)
    a, b = tf.GradientTape(persistent=True), tf.GradientTape(persistent=True)
    a.__enter__()
    y = x * x
    b.__enter__()
    z = y * x
    a.__exit__(None, None, None)
    w = z * x
    b.__exit__(None, None, None)
    assert tolist(a.gradient(z, x)) == 12.0
    assert a.gradient(w, x) is None
    # b did not see y, which is a constant to it: w = y x x.
    assert tolist(b.gradient(w, [x, y])) == [16.0, None]


def test_a_failed_gradient_leaves_a_one_shot_tape_usable() -> None:
    x = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    with pytest.raises(tf.errors.InvalidArgumentError):
        tape.gradient(y, x, output_gradients=tf.constant([1.0, 2.0, 3.0]))
    assert tolist(tape.gradient(y, x)) == [2.0, 4.0]


# === watch ===


def test_watch_counts_for_later_uses_only() -> None:
    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        y = x * x
        tape.watch(x)
        z = y * x
    assert tolist(tape.gradient(z, x)) == 4.0


def test_watching_an_intermediate_does_not_cut_the_path() -> None:
    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        tape.watch(y)
        z = y * y
    assert tolist(tape.gradient(z, [x, y])) == [32.0, 8.0]


def test_watch_takes_nests() -> None:
    x, y, v = tf.constant(2.0), tf.constant(3.0), tf.Variable(4.0, trainable=False)
    with tf.GradientTape() as tape:
        tape.watch({"x": x, "others": [y, (v,)]})
        z = x * y * v
    assert tolist(tape.gradient(z, [x, y, v])) == [12.0, 8.0, 6.0]


@pytest.mark.parametrize("wrong", [np.ones(2), 3.0, "x"], ids=["array", "float", "str"])
def test_watch_of_something_else(wrong) -> None:
    with tf.GradientTape() as tape, pytest.raises(ValueError, match=type(wrong).__name__):
        tape.watch(wrong)


def test_watch_needs_a_tape_that_ran() -> None:
    with pytest.raises(RuntimeError):
        tf.GradientTape().watch(tf.constant(1.0))


def test_watched_integers_have_no_gradient() -> None:
    x = tf.constant([1, 2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x) is None


def test_watch_is_per_tape() -> None:
    x = tf.constant(2.0)
    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        outer.watch(x)
        y = x * x
    assert inner.gradient(y, x) is None
    assert tolist(outer.gradient(y, x)) == 4.0


def test_variables_are_watched_when_read() -> None:
    v, frozen = tf.Variable(2.0), tf.Variable(3.0, trainable=False)
    with tf.GradientTape() as tape:
        y = v * frozen
    assert tolist(tape.gradient(y, [v, frozen])) == [3.0, None]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(frozen)
        y = v * frozen
    assert tolist(tape.gradient(y, [v, frozen])) == [None, 2.0]


def test_watched_variables_in_the_order_of_creation() -> None:
    first, second, third = tf.Variable(1.0), tf.Variable([2]), tf.Variable(3.0)
    unused = tf.Variable(4.0)
    tape = tf.GradientTape()
    assert tape.watched_variables() == ()
    with tape:
        _ = third * 2.0
        _ = second + second
        _ = first * third
        with tape.stop_recording():
            _ = unused * 2.0
    assert [id(v) for v in tape.watched_variables()] == [id(first), id(second), id(third)]
    tape.gradient(tf.constant(1.0), first)
    assert len(tape.watched_variables()) == 3


# === stop_recording and reset ===


def test_stop_recording() -> None:
    x = tf.constant(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        with tape.stop_recording():
            hidden = y * 5.0
        z = y * hidden
    assert tolist(tape.gradient(z, x)) == 80.0
    assert tape.gradient(hidden, x) is None


def test_stop_recording_needs_a_recording_tape() -> None:
    tape = tf.GradientTape()
    with pytest.raises(RuntimeError), tape.stop_recording():
        pass
    with tape:
        pass
    with pytest.raises(ValueError, match="not recording"), tape.stop_recording():
        pass


def test_reset() -> None:
    x, v = tf.constant(2.0), tf.Variable(4.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * v
        tape.reset()
        assert tape.watched_variables() == ()
        z = y * x * v
    # After the reset x is not watched and y is a constant 8; v is read again: dz/dv = 8 * 2.
    assert tolist(tape.gradient(z, [x, v])) == [None, 16.0]
    assert tape.gradient(y, v) is None
    with pytest.raises(ValueError, match="not recording"):
        tape.reset()


# === Targets and sources ===


def test_result_has_the_structure_of_the_sources() -> None:
    x, y = tf.constant(2.0), tf.constant(3.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        z = x * y
    assert tolist(tape.gradient(z, x)) == 3.0
    assert tolist(tape.gradient(z, [x, y])) == [3.0, 2.0]
    assert tolist(tape.gradient(z, (y, x))) == (2.0, 3.0)
    assert tolist(tape.gradient(z, {"b": y, "a": [x, {"c": y}]})) == {
        "b": 2.0,
        "a": [3.0, {"c": 2.0}],
    }
    assert tolist(tape.gradient(z, [x, x, y])) == [3.0, 3.0, 2.0]
    assert tape.gradient(z, []) == []


def test_targets_are_summed() -> None:
    x = tf.constant([1.0, 2.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    assert tolist(tape.gradient(y, x)) == [2.0, 4.0]
    assert tolist(tape.gradient({"a": y, "b": [x]}, x)) == [3.0, 5.0]
    assert tolist(tape.gradient([x, x], x)) == [2.0, 2.0]
    assert tolist(tape.gradient([x, y], x)) == [3.0, 5.0]
    assert tape.gradient([], x) is None
    with pytest.raises(TypeError):
        tape.gradient(None, x)
    with pytest.raises(TypeError):
        tape.gradient([y, None], x)
    with pytest.raises(TypeError):
        tape.gradient(y, [x, None])


def test_gradients_without_a_path() -> None:
    x, y, n = tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0]), tf.constant([1, 2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        z = x * x
        stopped = tf.stop_gradient(x) * y
        flat = tf.floor(x)
    assert tape.gradient(z, y) is None
    assert tape.gradient(z, n) is None
    assert tape.gradient(flat, x) is None
    assert tolist(tape.gradient(stopped, [x, y])) == [None, [1.0, 2.0]]
    zero = tape.gradient(z, [x, y, n], unconnected_gradients=tf.UnconnectedGradients.ZERO)
    assert tolist(zero) == [[2.0, 4.0], [0.0, 0.0], [0, 0]]
    assert zero[2].dtype == tf.int32
    assert tolist(tape.gradient(z, [y], unconnected_gradients="zero")) == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="sometimes"):
        tape.gradient(z, x, unconnected_gradients="sometimes")


def test_zero_is_not_none() -> None:
    x = tf.constant([-1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.sign(x)
    assert tolist(tape.gradient(y, x)) == [0.0, 0.0]


def test_seeds() -> None:
    x = tf.constant([1.0, 2.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, z = x * x, x * 3.0
    assert tolist(tape.gradient(y, x, output_gradients=tf.constant([1.0, 10.0]))) == [2.0, 40.0]
    assert tolist(tape.gradient(y, x, output_gradients=np.array([1, 10]))) == [2.0, 40.0]
    some = [None, np.array([1.0, 2.0])]
    assert tolist(tape.gradient([y, z], x, output_gradients=some)) == [5.0, 10.0]
    for seeds in ([1.0, 2.0, 3.0], 5.0, [[1.0, 2.0], [1.0, 2.0]]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            # The error comes when something waits for the server.
            tolist(tape.gradient(y, x, output_gradients=tf.constant(seeds)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        tolist(tape.gradient([y, z], x, output_gradients=[tf.constant([1.0, 2.0])]))
    assert tolist(tape.gradient(y, x)) == [2.0, 4.0]


def test_gradient_has_the_dtype_of_its_source() -> None:
    x = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.cast(x, tf.float64) * 2.0
    grad = tape.gradient(y, x)
    assert grad.dtype == tf.float32
    assert tolist(grad) == [2.0, 2.0]


def test_variable_as_target() -> None:
    v = tf.Variable(5.0)
    with tf.GradientTape() as tape:
        pass
    assert tolist(tape.gradient(v, v)) == 1.0


# === Variables ===


def test_each_read_keeps_its_value() -> None:
    v = tf.Variable(3.0)
    with tf.GradientTape(persistent=True) as tape:
        a = v * v
        v.assign(10.0)
        b = v * v
    v.assign(100.0)
    assert tolist(tape.gradient(a, v)) == 6.0
    assert tolist(tape.gradient(b, v)) == 20.0
    assert tolist(tape.gradient([a, b], v)) == 26.0


def test_reads_are_values_of_their_own() -> None:
    v = tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        r1, r2 = v.read_value(), v.read_value()
        y = r1 * r2
    assert tolist(tape.gradient(y, [v, r1])) == [4.0, 2.0]


def test_assign_is_not_differentiable() -> None:
    x, v = tf.constant(2.0), tf.Variable(1.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        v.assign(x * 3.0)
        y = v * 5.0
    assert tolist(tape.gradient(y, [x, v])) == [None, 5.0]


def test_assign_is_strict() -> None:
    v = tf.Variable([1.0, 2.0])
    with pytest.raises(ValueError, match="shape"):
        v.assign(3.0)
    with pytest.raises(ValueError, match="dtype"):
        v.assign(tf.constant([1.0, 2.0], tf.float64))
    assert v.assign([3, 4]).assign_add([1.0, 1.0]) is v
    assert v.numpy().tolist() == [4.0, 5.0]


# === Higher orders ===


def test_persistent_tape_records_its_own_gradient() -> None:
    x = tf.constant(3.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * x
        first = tape.gradient(y, x)
        second = tape.gradient(first, x)
        third = tape.gradient(second, x)
    assert tolist([first, second, third]) == [27.0, 18.0, 6.0]
    after = tape.gradient(y, x)
    assert tape.gradient(after, x) is None


def test_outer_tape_records_an_inner_one_shot_gradient() -> None:
    x = tf.constant(3.0)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = x * x * x
            g = inner.gradient(y, x)
        z = x * g
    assert tolist(outer.gradient(z, x)) == 81.0


def test_gradient_outside_the_outer_block_is_a_constant() -> None:
    x = tf.Variable(3.0)
    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        y = x * x * x
    g = inner.gradient(y, x)
    assert outer.gradient(g, x) is None


def test_hessian_vector_product() -> None:
    v, u = tf.Variable([1.0, 2.0]), tf.constant([1.0, 0.0])
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            f = tf.reduce_sum(v * v * v)
        g = inner.gradient(f, v)
    assert tolist(outer.gradient(g, v, output_gradients=u)) == [6.0, 0.0]


# === Sparse gradients ===


def test_gradient_of_gather_is_sparse() -> None:
    v = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    for _ in range(2):  # The second time from memory.
        with tf.GradientTape() as tape:
            y = tf.gather(v, [1, 1, 3]) * 2.0
        grad = tape.gradient(y, v)
        assert isinstance(grad, tf.IndexedSlices)
        assert grad.indices.numpy().tolist() == [1, 1, 3]
        assert grad.values.numpy().tolist() == [[2.0, 2.0]] * 3
        dense = tf.convert_to_tensor(grad).numpy().tolist()
        assert dense == [[0.0, 0.0], [4.0, 4.0], [0.0, 0.0], [2.0, 2.0]]


def test_gradient_of_gather_along_the_last_axis_depends_on_the_rank() -> None:
    """Axis -1 is the first axis of a vector and not of a matrix, though the program is the same."""
    for initial, sparse in [([1.0, 2.0], True), ([[1.0, 2.0]], False), ([3.0, 4.0], True)]:
        v = tf.Variable(initial)
        with tf.GradientTape() as tape:
            y = tf.gather(v, [1], axis=-1)
        grad = tape.gradient(y, v)
        assert isinstance(grad, tf.IndexedSlices) is sparse
        tf.synchronize()


# === Threads ===


def test_other_threads_are_not_recorded() -> None:
    x = tf.constant(2.0)
    made = []
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        thread = threading.Thread(target=lambda: made.append(x * x))
        thread.start()
        thread.join()
        y = x * 3.0
    assert tape.gradient(made[0], x) is None
    assert tolist(tape.gradient(y, x)) == 3.0
