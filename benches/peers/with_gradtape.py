"""Our side, from Python through gRPC: the server is the one at GRADTAPE_ADDRESS."""

import functools
import sys
import time

import gradtape as tf
import numpy as np

import _contend
import _keras


def eager(make, quick):
    """A model, trained eagerly."""
    note = "eager commands, batches resident in the session"
    return _keras.trained(tf, make, quick, note, compiled=False)


def function(make, quick):
    """A model, trained by one function call a step."""
    return _keras.trained(tf, make, quick, "one call a step, batches resident in the session")


def line(run, runs=1):
    """The tutorial's step as a function, of which `run` makes a thousand."""
    x, y = (tf.constant(values, tf.float32) for values in _keras.seed_data())
    w, b, start = tf.Variable(0.1), tf.Variable(0.1), tf.constant(0.1)

    @tf.function
    def step():
        with tf.GradientTape(persistent=True) as g:
            loss = tf.abs(y - (w * x + b))
        dw, db = g.gradient(loss, w), g.gradient(loss, b)
        w.assign_sub(0.001 * dw)
        b.assign_sub(0.001 * db)

    def work():
        w.assign(start)
        b.assign(start)
        run(step)
        # Both come with one answer.
        return tuple(map(float, tf.stack([w, b]).numpy()))

    outcome = work()
    note = f"warm-up 1000 steps; a sample is the mean of {runs} run(s)"
    return _contend.Contender(_contend.timed("1000 steps", work, runs=runs), outcome, note)


def call_often(step):
    """A call for each step."""
    for _ in range(1000):
        step()


def loop(step):
    """One loop on the server."""
    tf.experimental.run_loop(step, 1000)


def tensors(quick):
    """Sends and reads back 64 MiB."""
    array = np.ones(16 << 20, np.float32)

    def sample():
        start = time.perf_counter()
        tensor = tf.constant(array)
        tf.synchronize()
        sent = time.perf_counter()
        tensor.numpy()
        return {
            "upload": array.nbytes / (sent - start),
            "download": array.nbytes / (time.perf_counter() - sent),
        }

    sample()
    return _contend.Contender(sample, note="warm-up one transfer each way")


CONTENDERS = {
    ("seed", "python-eager"): lambda quick: _keras.seed_eager(tf),
    ("seed", "python-function"): lambda quick: line(call_often),
    ("seed", "python-loop"): lambda quick: line(loop, _contend.LOOP_RUNS),
    ("tensors", "python"): tensors,
    **{
        (bench, "python-function"): functools.partial(function, make)
        for bench, make in _keras.MODELS.items()
    },
    **{
        (bench, "python-eager"): functools.partial(eager, make)
        for bench, make in _keras.MODELS.items()
    },
}

if __name__ == "__main__":
    _contend.main(CONTENDERS, {"gradtape": tf.__version__, "python": sys.version.split()[0]})
