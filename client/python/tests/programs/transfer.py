"""A trained base is frozen, gets a new head, and is fine-tuned at a low rate."""

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers


def wave(*shape, start=0.0):
    count = int(np.prod(shape))
    return np.sin(0.7 * np.arange(count) + start).reshape(shape).astype("float32")


images = wave(96, 8, 8, 3)
first = (images[:, 1, 1, 0] > 0).astype("int32")
second = (np.arange(96) % 3).astype("int32")

base = keras.Sequential(
    [
        keras.Input((8, 8, 3)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.BatchNormalization(momentum=0.9),
        layers.MaxPooling2D(),
        layers.Conv2D(8, 2, activation="relu"),
        layers.GlobalAveragePooling2D(),
    ],
    name="base",
)
inputs = keras.Input((8, 8, 3))
model = keras.Model(inputs, layers.Dense(2, name="old_head")(base(inputs)))
# Variances are not negative.
model.set_weights(
    [
        np.abs(wave(*v.shape)) + 0.5 if "variance" in v.path else 0.3 * wave(*v.shape, start=i) + 0.1
        for i, v in enumerate(model.weights)
    ]
)
sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.05), sparse, metrics=["accuracy"])
pretrained = model.fit(images, first, batch_size=32, epochs=2, shuffle=False, verbose=0)

base.trainable = False
assert base.trainable_weights == []
frozen = [w.copy() for w in base.get_weights()]
head = layers.Dense(3, name="new_head")
outputs = head(layers.Dropout(0.0)(base(inputs, training=False)))
transfer = keras.Model(inputs, outputs)
assert [w.shape for w in transfer.trainable_weights] == [(8, 3), (3,)]
head.set_weights([0.3 * wave(8, 3), np.zeros(3, "float32")])
transfer.compile(keras.optimizers.Adam(0.02), sparse, metrics=["accuracy"])
new = transfer.fit(images, second, batch_size=32, epochs=3, shuffle=False, verbose=0)
for now, then in zip(base.get_weights(), frozen):
    np.testing.assert_array_equal(now, then)

base.trainable = True
for layer in base.layers[:-3]:
    layer.trainable = False
transfer.compile(keras.optimizers.Adam(1e-3), sparse, metrics=["accuracy"])
tuned = transfer.fit(images, second, batch_size=32, epochs=2, shuffle=False, verbose=0)
now = base.get_weights()
np.testing.assert_array_equal(now[0], frozen[0])
print(pretrained.history["loss"], new.history["loss"], tuned.history["loss"])

# What TensorFlow computes.
found = [pretrained.history["loss"][-1], new.history["loss"][-1], tuned.history["loss"][-1]]
np.testing.assert_allclose(found, [0.695391, 1.100600, 1.098986], rtol=2e-3)
