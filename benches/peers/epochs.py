"""Epochs of Keras' `fit`, of a small MLP on examples that are arrays: no contender, just numbers.

python epochs.py [steps_per_execution ...] prints for each how long the first `fit`, of two epochs,
takes, and the median of the next twelve epochs.
"""

import statistics
import sys
import time

import gradtape as tf
import numpy as np

keras = tf.keras

EXAMPLES, INPUTS, HIDDEN, CLASSES, BATCH, EPOCHS = 8192, 64, 32, 10, 32, 12


class Clock(keras.callbacks.Callback):
    """Takes the time of epochs."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        """Starts."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stops: the epoch's numbers are there."""
        self.seconds.append(time.perf_counter() - self._began)


def measure(steps_per_execution):
    """Trains a new model, and returns the seconds of the first `fit` and of a later epoch."""
    random = np.random.RandomState(0)
    x = random.normal(size=(EXAMPLES, INPUTS)).astype(np.float32)
    y = random.randint(0, CLASSES, EXAMPLES)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((INPUTS,)), layers.Dense(HIDDEN, activation="relu"), layers.Dense(CLASSES)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=steps_per_execution)
    began = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    first = time.perf_counter() - began
    clock = Clock()
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[clock])
    return first, statistics.median(clock.seconds)


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or ("1", "8", "256")):
        first, epoch = measure(size)
        print(f"{size:4}: first fit {first * 1e3:.0f} ms, then {epoch * 1e3:.1f} ms an epoch")
