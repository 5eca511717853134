"""Times the tutorial's loop of 1000 eager steps, five times, and prints the median."""

import statistics
import time

import numpy as np

import gradtape as tf


def run() -> float:
    """Trains once and returns the seconds from the first step to the final weights."""
    x = np.arange(10)
    y = 2 * x - 1
    w = tf.Variable(0.1, name="w", trainable=True, dtype=tf.float32)
    b = tf.Variable(0.1, name="b", trainable=True, dtype=tf.float32)
    learning_rate = 0.001
    start = time.perf_counter()
    for _ in range(1000):
        with tf.GradientTape(persistent=True) as g:
            loss = tf.abs(y - (w * x + b))
        dw, db = g.gradient(loss, w), g.gradient(loss, b)
        w.assign_sub(learning_rate * dw)
        b.assign_sub(learning_rate * db)
        del g
    weights = float(w.numpy()), float(b.numpy())
    seconds = time.perf_counter() - start
    assert weights == (2.0080034732818604, -0.9919993877410889), weights
    return seconds


if __name__ == "__main__":
    print(f"{statistics.median(run() for _ in range(5)):.3f} s")
