"""A gradient's presence is predicted from the recorded pattern: never wrongly, without waiting."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gradtape as tf
from gradtape import _ops, _signature
from gradtape._session import Session


class Waits:
    """How often the program waited for the server."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def waits(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    counted = Waits()
    wait = session.wait

    def count(call, scope):
        counted.count += 1
        return wait(call, scope)

    monkeypatch.setattr(session, "wait", count)
    return counted


def ask(program: Callable[[], list]) -> list[str]:
    """What each gradient is: absent, sparse or dense."""
    kinds = [
        "absent" if g is None else "sparse" if isinstance(g, tf.IndexedSlices) else "dense"
        for g in program()
    ]
    # A wrong prediction is reported by the next command that waits.
    tf.synchronize()
    return kinds


def test_training_loop_waits_only_in_its_first_step(waits: Waits) -> None:
    v, w = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])
    counts = []
    for _ in range(20):
        before = waits.count
        with tf.GradientTape() as tape:
            loss = v * v * 2.0
        grads = tape.gradient(loss, [v, w])
        assert grads[1] is None
        v.assign_sub(grads[0])
        counts.append(waits.count - before)
    assert counts == [1] + [0] * 19


def test_hits_with_values_that_come_and_go(waits: Waits) -> None:
    """Handles are used again as soon as their tensors die, for other values in each round."""
    v = tf.Variable(2.0)
    first = None
    for i in range(50):
        noise = [tf.constant([float(i), float(j)]) for j in range(i % 7)]
        with tf.GradientTape(persistent=True) as tape:
            y = v * 3.0
            for _ in range(3):
                y = y * y
        assert tape.gradient(y, v) is not None
        del tape, noise
        first = waits.count if first is None else first
    assert waits.count == first


def test_same_ops_in_the_same_order_and_other_connections() -> None:
    """Three multiplications each; only which values they take differs."""

    def program(pick: tuple[int, int, int]) -> list:
        x, c = tf.constant(2.0), tf.constant(3.0)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            values = [x, c]
            for i in pick:
                values.append(values[i] * values[-1])
        return [tape.gradient(value, x) for value in values]

    def expected(pick: tuple[int, int, int]) -> list[str]:
        depends = [True, False]
        for i in pick:
            depends.append(depends[i] or depends[-1])
        return ["dense" if each else "absent" for each in depends]

    picks = [(a, b, c) for a in range(2) for b in range(3) for c in range(4)]
    random.Random(1).shuffle(picks)
    for _ in range(2):
        for pick in picks:
            assert ask(lambda: program(pick)) == expected(pick), pick  # noqa: B023


def test_a_handle_used_again_is_another_value(session: Session) -> None:
    """A value that died while the tape recorded it, and a constant that got its handle."""
    seen = set()
    for _ in range(50):
        x = tf.constant(2.0)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x * 3.0
        handle = y._handle
        del y
        tf.synchronize()
        tf.synchronize()
        fresh = [tf.constant(float(i)) for i in range(3)]
        reused = next((c for c in fresh if c._handle == handle), None)
        seen.add(reused is not None)
        target = fresh[0] if reused is None else reused
        assert tape.gradient(target, x) is None
        # The same pattern with the value itself.
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x * 3.0
        assert tape.gradient(y, x).numpy() == 3.0
    assert True in seen, "no handle was used again, so this test shows nothing"


def test_attributes_and_dtypes_belong_to_the_pattern() -> None:
    def program(dtype: tf.DType) -> list:
        x = tf.constant([1.0, 2.0])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(tf.cast(x, dtype), tf.float32)
        return [tape.gradient(y, x)]

    for _ in range(2):
        assert ask(lambda: program(tf.float64)) == ["dense"]
        assert ask(lambda: program(tf.int32)) == ["absent"]


def test_settings_watches_and_trainability_belong_to_the_pattern() -> None:
    def program(accessed: bool, trainable: bool, watch: bool) -> list:
        v = tf.Variable(2.0, trainable=trainable)
        with tf.GradientTape(watch_accessed_variables=accessed) as tape:
            if watch:
                tape.watch(v)
            y = v * 3.0
        return [tape.gradient(y, v)]

    for _ in range(2):
        for bits in range(8):
            accessed, trainable, watch = bool(bits & 1), bool(bits & 2), bool(bits & 4)
            expected = "dense" if watch or (accessed and trainable) else "absent"
            assert ask(lambda: program(accessed, trainable, watch)) == [expected]  # noqa: B023


def test_the_query_belongs_to_the_pattern() -> None:
    def program(swap: bool, zero: str) -> list:
        x, c = tf.constant(2.0), tf.constant(3.0)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x * c
        return tape.gradient(y, [c, x] if swap else [x, c], unconnected_gradients=zero)

    for _ in range(2):
        assert ask(lambda: program(False, "none")) == ["dense", "absent"]
        assert ask(lambda: program(True, "none")) == ["absent", "dense"]
        assert ask(lambda: program(True, "zero")) == ["dense", "dense"]


def test_order_of_watch_stop_and_reset_belongs_to_the_pattern() -> None:
    def program(what: str) -> list:
        x = tf.constant(2.0)
        with tf.GradientTape(persistent=True) as tape:
            if what != "late":
                tape.watch(x)
            if what == "stop":
                with tape.stop_recording():
                    y = x * 3.0
            else:
                y = x * 3.0
            if what == "late":
                tape.watch(x)
            if what == "reset":
                tape.reset()
        return [tape.gradient(y, x)]

    expected = {"early": "dense", "late": "absent", "stop": "absent", "reset": "absent"}
    for _ in range(3):
        for what, kind in expected.items():
            assert ask(lambda: program(what)) == [kind], what  # noqa: B023


def test_what_an_outer_tape_saw_of_an_inner_one() -> None:
    def program(where: str, power: int) -> list:
        x = tf.constant(2.0)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape(persistent=True) as inner:
                if where != "unwatched":
                    inner.watch(x)
                y = x
                for _ in range(power - 1):
                    y = y * x
            if where == "inside":
                g = inner.gradient(y, x)
        if where != "inside":
            g = inner.gradient(y, x)
        return [None] if g is None else [g, outer.gradient(g, x)]

    for _ in range(2):
        assert ask(lambda: program("inside", 3)) == ["dense", "dense"]
        assert ask(lambda: program("outside", 3)) == ["dense", "absent"]
        assert ask(lambda: program("unwatched", 3)) == ["absent"]
        # The gradient of x is 1 and does not depend on x.
        assert ask(lambda: program("inside", 1)) == ["dense", "absent"]


def test_sparse_and_dense() -> None:
    def program(axis: int, scale: bool) -> list:
        v = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
        with tf.GradientTape() as tape:
            y = _ops.gather(v * 2.0 if scale else v, tf.constant([1, 1]), axis=axis)
        return [tape.gradient(y, v)]

    for _ in range(2):
        assert ask(lambda: program(0, False)) == ["sparse"]
        assert ask(lambda: program(1, False)) == ["dense"]
        assert ask(lambda: program(0, True)) == ["dense"]


@pytest.mark.parametrize("seed", range(10))
def test_random_programs(seed: int) -> None:
    """Small random programs, again and again: memory and server always agree."""
    rng = random.Random(seed)
    for _ in range(60):
        persistent = rng.random() < 0.5
        sources = [tf.constant(1.5), tf.Variable(2.0), tf.constant(0.5)]
        with tf.GradientTape(persistent=persistent) as tape:
            tape.watch(rng.sample(sources, rng.randrange(0, 3)))
            values = list(sources)
            for _ in range(rng.randrange(1, 4)):
                x, y = rng.choice(values), rng.choice(values)
                what = rng.randrange(5)
                if what == 0:
                    values.append(x * y)
                elif what == 1:
                    values.append(x - y)
                elif what == 2:
                    values.append(_ops.floor(x))
                elif what == 3:
                    values.append(_ops.stop_gradient(x) * y)
                else:
                    del values[3:][:1]
                    values.append(-x)
            if persistent and rng.random() < 0.5:
                tape.gradient(values[-1], sources)
        tape.gradient(rng.choice(values), rng.sample(sources, 2))
        del values, x, y
        if rng.random() < 0.2:
            tf.synchronize()
    tf.synchronize()


def test_a_wrong_prediction_is_told_and_forgotten() -> None:
    v, w = tf.Variable(2.0), tf.Variable(3.0)

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            y = v * v
        return tape.gradient(y, [v, w])

    assert [g is None for g in gradients()] == [False, True]
    answers = [node.answers for node in patterns() if node.answers]
    for answer in answers:
        for query, kinds in answer.items():
            answer[query] = tuple((1, None) for _ in kinds)
    assert [g is None for g in gradients()] == [False, False]
    with pytest.raises(tf.errors.InternalError, match="predicted wrongly"):
        tf.synchronize()
    assert [g is None for g in gradients()] == [False, True]


def patterns() -> list[_signature.Node]:
    """Every pattern that is known."""
    found, left = [], list(_signature._tree.roots.values())
    while left:
        node = left.pop()
        found.append(node)
        left += node.next.values()
    return found
