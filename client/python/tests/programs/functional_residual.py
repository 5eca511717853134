"""A functional model with residual connections, normalisation, callbacks and a schedule by hand."""

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers

keras.utils.set_random_seed(2)
x = np.random.normal(size=(256, 8, 8, 3)).astype("float32")
y = keras.utils.to_categorical((x[:, 2:5, 2:5].mean(axis=(1, 2, 3)) > 0).astype("int32"), 2)

inputs = keras.Input(shape=(8, 8, 3))
h = layers.Rescaling(0.5)(inputs)
h = layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(h)
h = layers.BatchNormalization(momentum=0.8)(h)
h = layers.Activation("relu")(h)
shortcut = h
h = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(h)
h = layers.LayerNormalization()(h)
h = layers.add([h, shortcut])
h = layers.GlobalAveragePooling2D()(h)
h = layers.Dropout(0.1)(h)
outputs = layers.Dense(2, activation="softmax", kernel_regularizer=keras.regularizers.l2(1e-4))(h)
model = keras.Model(inputs, outputs, name="residual")
model.summary()

model.compile(
    optimizer=keras.optimizers.Adam(learning_rate=0.01),
    loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.05),
    metrics=["accuracy", keras.metrics.AUC(name="auc")],
)


class Decay(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.01 / (epoch + 1)


history = model.fit(
    x,
    y,
    batch_size=32,
    epochs=6,
    validation_split=0.25,
    callbacks=[Decay(), keras.callbacks.EarlyStopping(monitor="val_loss", patience=10)],
    verbose=2,
)
assert set(history.history) == {
    "loss", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc",
}  # fmt: skip
assert history.history["loss"][-1] < history.history["loss"][0]
features = keras.Model(model.input, model.layers[-3].output)
assert features.predict(x[:5], verbose=0).shape == (5, 8)
total = tf.reduce_sum([tf.size(v) for v in model.trainable_variables])
assert int(total) == model.count_params() - 16
