"""TensorFlow: eager, remote, and by functions."""

import functools
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import _contend
import _keras


def seed_remote(quick):
    """The eager loop on another process's TensorFlow: a tape as a service, until now."""
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    tf.config.experimental_connect_to_host(server.stdout.readline().strip())
    device = tf.device("/job:worker/replica:0/task:0/device:CPU:0")
    steps = 10 if quick else 50

    def work():
        with device:
            return _keras.seed_loop(tf, steps)

    work()
    with device:
        outcome = _keras.seed_loop(tf)
    note = f"warm-up {1000 + steps} steps; a sample is {steps} steps, scaled to 1000"
    contender = _contend.Contender(
        _contend.timed("1000 steps", work, per=steps / 1000), outcome, note
    )
    contender.server = server
    return contender


def serve():
    """Is the other process: ends with its standard input."""
    server = tf.distribute.Server.create_local_server()
    print(server.target, flush=True)
    sys.stdin.read()


def line():
    """The variables of the loop, and its step as a program."""
    x, y = (tf.constant(values, tf.float32) for values in _keras.seed_data())
    w, b = tf.Variable(0.1), tf.Variable(0.1)

    def step():
        with tf.GradientTape(persistent=True) as g:
            loss = tf.abs(y - (w * x + b))
        dw, db = g.gradient(loss, w), g.gradient(loss, b)
        w.assign_sub(0.001 * dw)
        b.assign_sub(0.001 * db)

    return w, b, step


def seed_function(whole_loop, quick):
    """A traced step that is called 1000 times, or a traced loop that is called once."""
    w, b, step = line()
    traced = tf.function(step)

    @tf.function
    def loop():
        for _ in tf.range(1000):
            step()

    def work():
        w.assign(0.1)
        b.assign(0.1)
        if whole_loop:
            loop()
        else:
            for _ in range(1000):
                traced()
        return float(w.numpy()), float(b.numpy())

    outcome = work()
    runs = _contend.LOOP_RUNS if whole_loop else 1
    note = f"warm-up 1000 steps with tracing; a sample is the mean of {runs} run(s)"
    return _contend.Contender(_contend.timed("1000 steps", work, runs=runs), outcome, note)


def model(make, quick):
    """A model, trained by a traced step."""
    note = f"default threads ({os.cpu_count()} cores), batches resident"
    # Of rows that a batch uses twice, Keras on TensorFlow would square each gradient instead of
    # their sum, and so take another step than anybody else.
    return _keras.trained(tf, make, quick, note, as_gradient=tf.convert_to_tensor)


CONTENDERS = {
    ("seed", "tensorflow-eager"): lambda quick: _keras.seed_eager(tf),
    ("seed", "tensorflow-remote"): seed_remote,
    ("seed", "tensorflow-function"): functools.partial(seed_function, False),
    ("seed", "tensorflow-loop"): functools.partial(seed_function, True),
    **{
        (bench, "tensorflow-function"): functools.partial(model, make)
        for bench, make in _keras.MODELS.items()
    },
}

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        _contend.main(CONTENDERS, {"tensorflow": tf.__version__, "numpy": np.__version__})
