"""Learns to draw digits with a variational autoencoder: python examples/digits_vae.py

The model has a `train_step` of its own, which `fit` calls.
"""

import argparse

import gradtape as tf
import numpy as np

import _digits

layers = tf.keras.layers


class VAE(tf.keras.Model):
    """Encodes images as normal distributions of a few numbers, and decodes such numbers."""

    def __init__(self, pixels, latent):
        super().__init__()
        self.latent = latent
        self.encoder = tf.keras.Sequential(
            [layers.Dense(128, activation="relu"), layers.Dense(2 * latent)]
        )
        self.decoder = tf.keras.Sequential(
            [layers.Dense(128, activation="relu"), layers.Dense(pixels)]
        )
        self.loss_tracker = tf.keras.metrics.Mean(name="loss")
        self.divergence_tracker = tf.keras.metrics.Mean(name="divergence")

    @property
    def metrics(self):
        """What `fit` resets and shows."""
        return [self.loss_tracker, self.divergence_tracker]

    def call(self, x):
        """Returns scores of the pixels, and mean and logarithm of the variance of the code."""
        mean, log_variance = tf.split(self.encoder(x), 2, axis=-1)
        noise = tf.random.normal(tf.shape(mean))
        return self.decoder(mean + tf.exp(0.5 * log_variance) * noise), mean, log_variance

    def losses_of(self, x):
        """Returns what the pixels cost, and how far the codes are from the standard normal."""
        scores, mean, log_variance = self(x)
        pixels = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=scores)
        divergence = -0.5 * (1.0 + log_variance - tf.square(mean) - tf.exp(log_variance))
        return (
            tf.reduce_mean(tf.reduce_sum(pixels, axis=-1)),
            tf.reduce_mean(tf.reduce_sum(divergence, axis=-1)),
        )

    def _step(self, x, training):
        with tf.GradientTape() as tape:
            pixels, divergence = self.losses_of(x)
            loss = pixels + divergence
        if training:
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        self.loss_tracker.update_state(loss)
        self.divergence_tracker.update_state(divergence)
        return {metric.name: metric.result() for metric in self.metrics}

    def train_step(self, data):
        """Trains on one batch."""
        return self._step(data[0] if isinstance(data, tuple) else data, True)

    def test_step(self, data):
        """Evaluates one batch."""
        return self._step(data[0] if isinstance(data, tuple) else data, False)


def main(arguments=None):
    """Trains the model; returns its history and its loss on digits held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--latent", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", help="MNIST as an .npz file, instead of the 8 x 8 digits")
    parser.add_argument("--quick", action="store_true", help="three epochs")
    options = parser.parse_args(arguments)

    tf.keras.utils.set_random_seed(options.seed)
    x, _, x_test, _ = _digits.load(options.data)
    shape = x.shape[1:3]
    x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    model = VAE(x.shape[-1], options.latent)
    model.compile(optimizer=tf.keras.optimizers.Adam(0.002))
    history = model.fit(x, batch_size=32, epochs=3 if options.quick else options.epochs)
    found = model.evaluate(x_test, return_dict=True, verbose=0)
    print(f"loss on {len(x_test)} digits held out: {found['loss']:.2f}")
    drawn = tf.sigmoid(model.decoder(tf.random.normal((5, options.latent)))).numpy()
    print(as_text(drawn.reshape(-1, *shape)))
    return history.history, found


def as_text(images):
    """Draws images beside each other."""
    rows = np.concatenate(list(images), axis=1)
    return "\n".join("".join(" .:-=+*#%@"[min(int(p * 10), 9)] * 2 for p in row) for row in rows)


if __name__ == "__main__":
    main()
