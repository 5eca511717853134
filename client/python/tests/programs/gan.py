"""Two networks that train against each other: points of a circle."""

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

tf.keras.utils.set_random_seed(3)
angles = np.random.uniform(0.0, 2.0 * np.pi, 512)
points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
dataset = tf.data.Dataset.from_tensor_slices(points).shuffle(512).batch(64, drop_remainder=True)

generator = tf.keras.Sequential(
    [tf.keras.Input((4,)), layers.Dense(32, activation="relu"), layers.Dense(2)], name="generator"
)
discriminator = tf.keras.Sequential(
    [
        tf.keras.Input((2,)),
        layers.Dense(32),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Dropout(0.1),
        layers.Dense(1),
    ],
    name="discriminator",
)
cross_entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)
generator_optimizer = tf.keras.optimizers.Adam(1e-3, beta_1=0.5)
discriminator_optimizer = tf.keras.optimizers.Adam(1e-3, beta_1=0.5)


@tf.function
def train_step(real):
    noise = tf.random.normal([64, 4])
    with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
        fake = generator(noise, training=True)
        real_scores = discriminator(real, training=True)
        fake_scores = discriminator(fake, training=True)
        generator_loss = cross_entropy(tf.ones_like(fake_scores), fake_scores)
        discriminator_loss = cross_entropy(
            tf.ones_like(real_scores), real_scores
        ) + cross_entropy(tf.zeros_like(fake_scores), fake_scores)
    gradients = generator_tape.gradient(generator_loss, generator.trainable_variables)
    generator_optimizer.apply_gradients(zip(gradients, generator.trainable_variables))
    gradients = discriminator_tape.gradient(
        discriminator_loss, discriminator.trainable_variables
    )
    discriminator_optimizer.apply_gradients(zip(gradients, discriminator.trainable_variables))
    return generator_loss, discriminator_loss


before = [w.numpy() for w in generator.trainable_variables]
for epoch in range(5):
    for batch in dataset:
        losses = train_step(batch)
    print(f"epoch {epoch}: generator {losses[0]:.3f}, discriminator {losses[1]:.3f}")
assert all(np.isfinite(float(loss)) for loss in losses)
assert all(
    np.abs(w.numpy() - old).max() > 1e-4
    for w, old in zip(generator.trainable_variables, before)
)
assert generator(tf.random.normal([10, 4])).shape == (10, 2)
