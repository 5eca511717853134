"""A model with train_step of its own, a layer with weights and a penalty, and saving it all."""

import os
import tempfile

import numpy as np
import tensorflow as tf
from tensorflow import keras


def wave(*shape, start=0.0):
    count = int(np.prod(shape))
    return np.sin(0.7 * np.arange(count) + start).reshape(shape).astype("float32")


@keras.utils.register_keras_serializable(package="programs")
class Scaled(keras.layers.Layer):
    def __init__(self, units, penalty=1e-2, **kwargs):
        super().__init__(**kwargs)
        self.units, self.penalty = units, penalty

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel"
        )
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, inputs):
        outputs = keras.ops.matmul(inputs, self.kernel) * self.scale
        self.add_loss(self.penalty * keras.ops.sum(keras.ops.square(self.scale)))
        return keras.ops.relu(outputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "penalty": self.penalty}


class Trained(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.mae_metric = keras.metrics.MeanAbsoluteError(name="mae")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = keras.ops.mean(keras.losses.MSE(y, y_pred))
            loss = loss + sum(self.losses)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.loss_tracker.update_state(loss)
        self.mae_metric.update_state(y, y_pred)
        return {"loss": self.loss_tracker.result(), "mae": self.mae_metric.result()}

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae_metric]


x = wave(128, 8)
y = np.tanh(x[:, :1] - 0.5 * x[:, 3:4]).astype("float32")
inputs = keras.Input((8,))
model = Trained(inputs, keras.layers.Dense(1)(Scaled(16)(inputs)))
model.set_weights([0.5 * wave(*w.shape, start=i) for i, w in enumerate(model.get_weights())])
model.compile(optimizer=keras.optimizers.RMSprop(0.01))
history = model.fit(x, y, epochs=5, batch_size=32, shuffle=False, verbose=2)

# A plain model of the same layers goes to a file and comes back.
plain = keras.Model(model.inputs, model.outputs)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.keras")
    plain.save(path)
    again = keras.models.load_model(path)
np.testing.assert_allclose(
    again.predict(x[:4], verbose=0), model.predict(x[:4], verbose=0), rtol=1e-5, atol=1e-6
)
assert isinstance(again.layers[1], Scaled)

# What TensorFlow computes.
np.testing.assert_allclose(history.history["loss"], [0.329642, 0.168927, 0.113979, 0.074495, 0.047279], rtol=2e-3)
np.testing.assert_allclose(history.history["mae"][-1], 0.147656, rtol=5e-3)
