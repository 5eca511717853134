"""A functional model of several inputs and outputs, with callbacks and sample weights."""

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers


def wave(*shape, start=0.0):
    count = int(np.prod(shape))
    return np.sin(0.7 * np.arange(count) + start).reshape(shape).astype("float32")


count, words = 160, 20
title = (np.arange(count * 7).reshape(count, 7) * 7919 % words).astype("int32")
numbers = wave(count, 4)
priority = (0.5 + 0.5 * np.tanh(numbers.sum(axis=1, keepdims=True))).astype("float32")
department = keras.utils.to_categorical(title[:, 0] % 3, 3)

title_input = keras.Input(shape=(None,), name="title", dtype="int32")
number_input = keras.Input(shape=(4,), name="numbers")
embedded = layers.Embedding(words, 8)(title_input)
text = layers.GlobalAveragePooling1D()(embedded)
joined = layers.concatenate([text, layers.Dense(8, activation="relu")(number_input)])
priority_output = layers.Dense(1, name="priority", activation="sigmoid")(joined)
department_output = layers.Dense(3, name="department")(joined)
model = keras.Model(
    inputs={"title": title_input, "numbers": number_input},
    outputs={"priority": priority_output, "department": department_output},
)
model.set_weights([0.5 * wave(*w.shape, start=i) for i, w in enumerate(model.get_weights())])
model.compile(
    optimizer=keras.optimizers.SGD(0.5),
    loss={
        "priority": keras.losses.BinaryCrossentropy(),
        "department": keras.losses.CategoricalCrossentropy(from_logits=True),
    },
    loss_weights={"priority": 0.2, "department": 1.0},
    metrics={"department": ["accuracy"], "priority": ["mae"]},
)
stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True)
slower = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1)
x = {"title": title, "numbers": numbers}
y = {"priority": priority, "department": department}
train_x, train_y = ({k: v[:128] for k, v in d.items()} for d in (x, y))
valid_x, valid_y = ({k: v[128:] for k, v in d.items()} for d in (x, y))
history = model.fit(
    train_x, train_y, epochs=6, batch_size=32, shuffle=False, verbose=2,
    validation_data=(valid_x, valid_y), callbacks=[stop, slower],
)
results = model.evaluate(valid_x, valid_y, verbose=0, return_dict=True)
print(results)
predictions = model.predict(valid_x, verbose=0)
assert predictions["priority"].shape == (32, 1)
assert predictions["department"].shape == (32, 3)
assert {"loss", "val_loss", "department_accuracy", "val_priority_mae"} <= set(history.history)

# What TensorFlow computes.
np.testing.assert_allclose(history.history["loss"], [1.232094, 1.152414, 1.100960], rtol=2e-3)
np.testing.assert_allclose(results["loss"], 1.432828, rtol=5e-3)
