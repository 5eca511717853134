"""Padded sequences of words, an embedding with a mask, and recurrent layers in both directions."""

import numpy as np
import tensorflow as tf

tf.keras.utils.set_random_seed(3)
lengths = np.random.randint(2, 9, 192)
texts = [list(np.random.randint(1, 20, n)) for n in lengths]
labels = np.array([float(max(text) >= 17) for text in texts], dtype="float32")
padded = tf.keras.utils.pad_sequences(texts, maxlen=8, padding="post")

model = tf.keras.Sequential(
    [
        tf.keras.layers.Embedding(input_dim=20, output_dim=8, mask_zero=True),
        tf.keras.layers.Bidirectional(tf.keras.layers.LSTM(8, return_sequences=True)),
        tf.keras.layers.GRU(8),
        tf.keras.layers.Dense(1),
    ]
)
model.compile(
    loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
    optimizer=tf.keras.optimizers.Adam(0.02),
    metrics=[tf.keras.metrics.BinaryAccuracy(threshold=0.0)],
)
history = model.fit(padded, labels[:, None], epochs=8, batch_size=32, verbose=0)
assert history.history["binary_accuracy"][-1] > 0.85
loss, accuracy = model.evaluate(padded, labels[:, None], verbose=0)
assert accuracy > 0.85
# What is behind the end of a text changes nothing.
longer = np.pad(padded, ((0, 0), (0, 3)))
np.testing.assert_allclose(
    model.predict(padded, verbose=0), model.predict(longer, verbose=0), atol=1e-5
)
