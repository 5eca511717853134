"""A program with annotations, which `mypy --strict` accepts. See test_types.py."""

from __future__ import annotations

import numpy as np

import gradtape as tf


def train() -> float:
    w = tf.Variable([[1.0], [2.0]], name="w")
    optimizer = tf.keras.optimizers.Adam(learning_rate=0.1)
    model = tf.keras.Sequential(
        [tf.keras.layers.Dense(3, activation="relu"), tf.keras.layers.Dense(1)]
    )
    x = tf.constant(np.ones((4, 2), np.float32))
    loss = tf.constant(0.0)
    for images in tf.data.Dataset.from_tensor_slices(x.numpy()).batch(2):
        with tf.GradientTape(persistent=True) as tape:
            y = tf.matmul(images, w) + model(images)
            loss = tf.reduce_mean(tf.square(y)) + tf.nn.l2_loss(w) + tf.math.reduce_std(x)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, [w]), 1.0)
        optimizer.apply_gradients(zip(gradients, [w], strict=True))
    w[0].assign([1.0])
    values, places = tf.math.top_k(x, 2)
    assert values.shape == places.shape
    norm: tf.Tensor = tf.linalg.norm(x) + tf.random.normal([])
    assert norm.dtype is tf.float32
    return float(loss)


def double(v: tf.Tensor) -> tf.Tensor:
    return v * 2.0


assert np.isfinite(train())
assert float(double(tf.ones([]))) == 2.0
