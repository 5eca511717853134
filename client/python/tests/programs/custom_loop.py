"""A training loop of one's own over tf.data, with metrics and a validation loop."""

import numpy as np
import tensorflow as tf


def wave(*shape, start=0.0):
    count = int(np.prod(shape))
    return np.sin(0.7 * np.arange(count) + start).reshape(shape).astype("float32")


features = wave(192, 6)
labels = (features.sum(axis=1) > 0).astype("int32") + (features[:, 0] > 0.5).astype("int32")
train = tf.data.Dataset.from_tensor_slices((features[:128], labels[:128])).batch(32)
valid = tf.data.Dataset.from_tensor_slices((features[128:], labels[128:])).batch(32)

inputs = tf.keras.Input(shape=(6,))
hidden = tf.keras.layers.Dense(16, activation="tanh")(inputs)
hidden = tf.keras.layers.Dense(16, activation="relu")(hidden)
model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(hidden))
# The same first weights everywhere, so that the numbers below can be compared.
model.set_weights([0.4 * wave(*w.shape, start=i) for i, w in enumerate(model.get_weights())])

optimizer = tf.keras.optimizers.SGD(learning_rate=0.05, momentum=0.9, nesterov=True, clipnorm=1.0)
loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
train_accuracy = tf.keras.metrics.SparseCategoricalAccuracy()
valid_accuracy = tf.keras.metrics.SparseCategoricalAccuracy()
train_loss = tf.keras.metrics.Mean(name="train_loss")


@tf.function
def train_step(x, y):
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        value = loss_fn(y, logits)
    gradients = tape.gradient(value, model.trainable_weights)
    optimizer.apply_gradients(zip(gradients, model.trainable_weights))
    train_accuracy.update_state(y, logits)
    train_loss(value)


@tf.function
def valid_step(x, y):
    valid_accuracy.update_state(y, model(x, training=False))


losses, accuracies = [], []
for epoch in range(8):
    for step, (x_batch, y_batch) in enumerate(train):
        train_step(x_batch, y_batch)
    for x_batch, y_batch in valid:
        valid_step(x_batch, y_batch)
    losses.append(float(train_loss.result()))
    accuracies.append(float(valid_accuracy.result()))
    print(f"epoch {epoch}: {losses[-1]:.4f}, validation accuracy {accuracies[-1]:.4f}")
    train_accuracy.reset_state()
    valid_accuracy.reset_state()
    train_loss.reset_state()

# What TensorFlow computes.
np.testing.assert_allclose([losses[0], losses[-1]], [1.098926, 0.382015], rtol=1e-3)
np.testing.assert_allclose(accuracies[-1], 0.703125, atol=0.02)
