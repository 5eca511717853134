"""Foretells a noisy sum of sines with an LSTM: python examples/sine_lstm.py"""

import argparse

import gradtape as tf
import numpy as np


def series(count, length, random):
    """Stretches of two sines of random phase with noise, and the number that comes next."""
    phase = random.uniform(0.0, 2.0 * np.pi, (count, 2, 1))
    time = np.arange(length + 1)[None]
    clean = np.sin(0.3 * time + phase[:, 0]) + 0.5 * np.sin(0.71 * time + phase[:, 1])
    noisy = clean + random.normal(0.0, 0.05, clean.shape)
    return noisy[:, :-1, None].astype(np.float32), clean[:, -1:].astype(np.float32)


def main(arguments=None):
    """Trains the model; returns its error on series held out, and that of saying the last number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--length", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="three epochs of fewer series")
    options = parser.parse_args(arguments)
    epochs, count = (3, 512) if options.quick else (options.epochs, 2048)

    tf.keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    x, y = series(count, options.length, random)
    x_test, y_test = series(256, options.length, random)
    model = tf.keras.Sequential(
        [tf.keras.Input((options.length, 1)), tf.keras.layers.LSTM(32), tf.keras.layers.Dense(1)]
    )
    model.compile(tf.keras.optimizers.Adam(0.01), loss="mse")
    stop = tf.keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    model.fit(x, y, 64, epochs, validation_split=0.1, callbacks=[stop])
    error = float(model.evaluate(x_test, y_test, verbose=0))
    naive = float(np.mean((x_test[:, -1] - y_test) ** 2))
    print(f"mean squared error: {error:.5f}; of saying the last number again: {naive:.5f}")
    return error, naive


if __name__ == "__main__":
    main()
