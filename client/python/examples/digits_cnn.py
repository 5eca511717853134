"""Recognises handwritten digits with a convolutional network: python examples/digits_cnn.py"""

import argparse

import gradtape as tf

import _digits


def build(shape):
    """A network of three convolutions."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input(shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.9),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.9),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )


def main(arguments=None):
    """Trains the network and returns its history and the accuracy on digits that it never saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", help="MNIST as an .npz file, instead of the 8 x 8 digits")
    parser.add_argument("--quick", action="store_true", help="three epochs")
    options = parser.parse_args(arguments)
    epochs = 3 if options.quick else options.epochs

    tf.keras.utils.set_random_seed(options.seed)
    x, y, x_test, y_test = _digits.load(options.data)
    model = build(x.shape[1:])
    model.summary()
    model.compile(
        optimizer=tf.keras.optimizers.Adam(0.002),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def rate(epoch):
        return 0.002 * (1.0 - epoch / epochs) + 1e-5

    schedule = tf.keras.callbacks.LearningRateScheduler(rate)
    history = model.fit(x, y, batch_size=32, epochs=epochs, callbacks=[schedule])
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"{len(x_test)} digits held out: {accuracy:.2%} recognised")
    return history.history, accuracy


if __name__ == "__main__":
    main()
