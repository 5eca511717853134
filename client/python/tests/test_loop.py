"""Loops that the server runs (`tf.experimental.run_loop`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradtape as tf
from gradtape.experimental import Report, run_loop


def test_a_loop_does_what_its_calls_do() -> None:
    found = []
    x = tf.constant(np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32))
    for looped in (False, True):
        w = tf.Variable(tf.ones((3, 1)))
        optimizer = tf.keras.optimizers.Adam(0.1)

        @tf.function
        def step(x: Any, w: Any = w, optimizer: Any = optimizer) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(tf.matmul(x, w) - 2.0))
            optimizer.apply_gradients([(tape.gradient(loss, w), w)])
            return {"loss": loss}

        if looped:
            loop = run_loop(step.get_concrete_function(x), 20, arguments=[x], report_every=10)
            result = loop.wait()
            assert (result.steps, result.stopped) == (20, False)
            assert [report.step for report in result.reports] == [10, 20]
            last = loop.results["loss"]
            assert result.reports[1].values == (float(last),)
        else:
            for _ in range(20):
                last = step(x)["loss"]
        found.append((w.numpy().tobytes(), last.numpy().tobytes()))
    assert found[0] == found[1]


def test_batches_come_from_data_on_the_server() -> None:
    seen = tf.Variable(tf.zeros(12), trainable=False)

    @tf.function
    def note(x: Any) -> Any:
        seen.assign(tf.concat([seen[3:], x], 0))
        return tf.reduce_sum(x)

    data = tf.range(7.0)
    loop = run_loop(note, 4, datasets=data, batch_size=3, report_every=1)
    # The last example fills no batch.
    assert [report.values for report in loop.wait().reports] == [(3.0,), (12.0,)] * 2
    run_loop(note, 4, datasets=data, batch_size=3, shuffle_seed=5).wait()
    first = seen.numpy().tolist()
    for epoch in (first[:6], first[6:]):
        assert len(set(epoch)) == 6 and set(epoch) <= set(range(7))
    run_loop(note, 4, datasets=data, batch_size=3, shuffle_seed=5).wait()
    assert seen.numpy().tolist() == first


def test_a_loop_carries_reports_and_stops() -> None:
    double = tf.function(lambda x, k: (x + k, k * 2.0))
    loop = run_loop(double, 5, arguments=[tf.constant(0.0), tf.constant(1.0)], carried=2)
    assert [float(value) for value in loop.results] == [31.0, 32.0]

    collatz = tf.function(
        lambda n: (tf.where(n % 2 == 0, n // 2, 3 * n + 1), tf.not_equal(n, 2)),
        input_signature=[tf.TensorSpec([], tf.int64)],
    )
    start = [tf.constant(27, tf.int64)]
    loop = run_loop(collatz, 1_000, arguments=start, carried=1, while_result=1)
    # The well-known number of steps from 27 to 1.
    assert (loop.wait().steps, int(loop.results[0])) == (111, 1)

    count = tf.Variable(0.0)
    step = tf.function(lambda: count.assign_add(1.0) * 1.0)
    loop = run_loop(step, 4_096_000, report_every=1_000)
    reports = loop.reports()
    assert next(reports) == Report(1_000, (1_000.0,))
    loop.stop()
    result = loop.wait()
    assert result.stopped and result.steps == int(count)
    assert len(result.reports) == result.steps // 1_000
    rest = [report.step for report in reports]
    assert rest == [1_000 * i for i in range(2, 2 + len(rest))]


def test_a_step_that_fails_is_named() -> None:
    total = tf.Variable(0)

    @tf.function
    def divide(x: Any) -> Any:
        total.assign_add(1)
        return tf.constant([6]) // x

    loop = run_loop(divide, 4, datasets=tf.constant([1, 2, 0, 3]), batch_size=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="step 3"):
        loop.wait()
    with pytest.raises(tf.errors.InvalidArgumentError, match="step 3"):
        loop.wait()
    assert int(total) == 2
    assert list(loop.reports()) == []
