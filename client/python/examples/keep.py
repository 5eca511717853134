"""Trains for some steps, from where the last run left off.

The state is in a checkpoint on the server, and so outlives this program and the server too:

    GRADTAPE_ADDRESS=localhost:50051 python keep.py line 50
"""

import argparse

import numpy as np

import gradtape as tf


def main(arguments=None):
    """Returns the bits of w and b."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="its name")
    parser.add_argument("steps", type=int, nargs="?", default=50)
    parser.add_argument("--quick", action="store_true", help="five steps")
    options = parser.parse_args(arguments)

    w, b = tf.Variable(0.1, name="w"), tf.Variable(0.1, name="b")
    adam = tf.keras.optimizers.Adam(learning_rate=0.05)
    state = {"w": w, "b": b, "adam": adam}
    if any(found.name == options.checkpoint for found in tf.checkpoints.list()):
        tf.checkpoints.restore(options.checkpoint, state)

    x = tf.constant(np.arange(10, dtype=np.float32))
    y = 2.0 * x - 1.0
    for _ in range(5 if options.quick else options.steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - (w * x + b)))
        adam.apply_gradients(zip(tape.gradient(loss, [w, b]), [w, b]))
    tf.checkpoints.save(options.checkpoint, state, overwrite=True)

    numbers = np.array([w.numpy(), b.numpy()], np.float32)
    bits = " ".join(f"{word:08x}" for word in numbers.view(np.uint32))
    print(f"w = {numbers[0]}, b = {numbers[1]}; bits {bits}")
    return bits


if __name__ == "__main__":
    main()
