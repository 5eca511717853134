"""Layers and a loss of one's own, gradient clipping, penalties, and weights to and from arrays."""

import numpy as np
import tensorflow as tf


class Linear(tf.keras.layers.Layer):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True
        )
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True)
        self.scale = self.add_weight(
            name="scale", shape=(), initializer="ones", trainable=False
        )

    def call(self, inputs, training=None):
        outputs = tf.matmul(inputs, self.w) * self.scale + self.b
        if training:
            self.add_loss(1e-3 * tf.reduce_mean(tf.square(outputs)))
        return outputs

    def get_config(self):
        config = super().get_config()
        config.update({"units": self.units})
        return config


class Block(tf.keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.layers_in = [Linear(8), Linear(1)]

    def call(self, inputs, training=None):
        hidden = tf.nn.relu(self.layers_in[0](inputs, training=training))
        return self.layers_in[1](hidden, training=training)


def my_loss(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)


tf.keras.utils.set_random_seed(4)
x = np.random.uniform(-1, 1, (128, 2)).astype("float32")
y = (x[:, :1] * x[:, 1:]).astype("float32")
block = Block()
optimizer = tf.keras.optimizers.SGD(learning_rate=0.1, momentum=0.9)
losses = []
for step in range(60):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(my_loss(y, block(x, training=True))) + sum(block.losses)
    gradients = tape.gradient(loss, block.trainable_weights)
    gradients = [tf.clip_by_value(g, -1.0, 1.0) for g in gradients]
    optimizer.apply_gradients(zip(gradients, block.trainable_weights))
    losses.append(float(loss))
assert losses[-1] < 0.5 * losses[0]
assert len(block.losses) == 2 and len(block.weights) == 6 and len(block.trainable_weights) == 4
assert Linear.from_config(Linear(3).get_config()).units == 3

model = tf.keras.Sequential([tf.keras.Input((2,)), Block()])
model.set_weights(block.get_weights())
np.testing.assert_allclose(model(x).numpy(), block(x).numpy(), atol=1e-6)
model.compile(optimizer="adam", loss=my_loss, metrics=["mae"])
model.fit(tf.data.Dataset.from_tensor_slices((x, y)).repeat(2).batch(64), epochs=2, verbose=0)
block.trainable = False
assert block.trainable_weights == [] and len(block.non_trainable_weights) == 6
