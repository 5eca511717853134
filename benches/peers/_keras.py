"""Programs in TensorFlow's and Keras's names.

`tf` is TensorFlow or gradtape: the program is the same.
"""

import numpy as np

import _contend
import _models


def seed_data():
    """Ten points of a line."""
    x = np.arange(10)
    return x, 2 * x - 1


def seed_loop(tf, steps=1000):
    """The tutorial's loop: eager steps of two gradients and two updates; returns the weights."""
    x, y = seed_data()
    w = tf.Variable(0.1, name="w", trainable=True, dtype=tf.float32)
    b = tf.Variable(0.1, name="b", trainable=True, dtype=tf.float32)
    learning_rate = 0.001
    for _ in range(steps):
        with tf.GradientTape(persistent=True) as g:
            loss = tf.abs(y - (w * x + b))
        dw, db = g.gradient(loss, w), g.gradient(loss, b)
        w.assign_sub(learning_rate * dw)
        b.assign_sub(learning_rate * db)
        del g
    return float(w.numpy()), float(b.numpy())


def seed_eager(tf):
    """Measures the loop."""
    outcome = seed_loop(tf)
    return _contend.Contender(
        _contend.timed("1000 steps", lambda: seed_loop(tf)), outcome, "warm-up 1000 steps"
    )


def mlp_model(tf):
    """The model with its first values."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((_models.MLP["inputs"],)),
            layers.Dense(_models.MLP["hidden"], activation="relu"),
            layers.Dense(_models.MLP["classes"]),
        ]
    )
    model.set_weights(_models.mlp())
    return model, _models.mlp_batches()


def cnn_model(tf):
    """The model with its first values."""
    layers = tf.keras.layers
    side, (f, g) = _models.CNN["side"], _models.CNN["filters"]
    model = tf.keras.Sequential(
        [
            tf.keras.Input((side, side, 1)),
            layers.Conv2D(f, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(g, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(_models.CNN["classes"]),
        ]
    )
    model.set_weights(_models.cnn())
    return model, _models.cnn_batches()


def gpt_model(tf):
    """The model with its first values."""
    layers = tf.keras.layers
    width, heads = _models.GPT["width"], _models.GPT["heads"]
    normalization = {"epsilon": _models.LAYER_NORM_EPSILON}

    class Block(layers.Layer):
        """Attention and two dense layers, each added to what came in."""

        def __init__(self):
            super().__init__()
            self.before_attention = layers.LayerNormalization(**normalization)
            self.attention = layers.MultiHeadAttention(heads, width // heads)
            self.before_dense = layers.LayerNormalization(**normalization)
            self.wide = layers.Dense(4 * width, activation="gelu")
            self.narrow = layers.Dense(width)

        def call(self, x):
            """Computes the outputs."""
            y = self.before_attention(x)
            x = x + self.attention(y, y, use_causal_mask=True)
            return x + self.narrow(self.wide(self.before_dense(x)))

    class GPT(tf.keras.Model):
        """Scores for the next character at each position."""

        def __init__(self):
            super().__init__()
            self.token = layers.Embedding(_models.GPT["characters"], width)
            self.position = layers.Embedding(_models.GPT["length"], width)
            self.blocks = [Block() for _ in range(_models.GPT["depth"])]
            self.norm = layers.LayerNormalization(**normalization)
            self.head = layers.Dense(_models.GPT["characters"])

        def call(self, ids):
            """Computes the outputs."""
            x = self.token(ids) + self.position(tf.range(ids.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    model, batches = GPT(), _models.gpt_batches()
    model(tf.constant(batches[0][0]))
    values = iter(_models.gpt())
    assign(model.token.weights, values)
    assign(model.position.weights, values)
    for block in model.blocks:
        assign(block.before_attention.weights, values)
        kernel, bias = next(values), next(values)
        # Keras keeps queries, keys and values apart, and the heads as an axis of their own.
        parts = zip(np.split(kernel, 3, axis=1), np.split(bias, 3))
        together = [part for pair in parts for part in pair]
        attention = iter([*together, next(values), next(values)])
        assign(block.attention.weights, attention, reshape=True)
        for layer in (block.before_dense, block.wide, block.narrow):
            assign(layer.weights, values)
    assign(model.norm.weights, values)
    assign(model.head.weights, values)
    return model, batches


def assign(weights, values, reshape=False):
    """Takes the next values for `weights`."""
    for weight in weights:
        value = next(values)
        if reshape:
            value = value.reshape(tuple(weight.shape))
        weight.assign(value)


def trained(tf, make, quick, note, as_gradient=None, compiled=True):
    """Measures a training loop of one's own.

    `as_gradient` is applied to each gradient; `compiled` says whether a step is a `tf.function`.
    """
    model, batches = make(tf)
    batches = [(tf.constant(x), tf.constant(y)) for x, y in batches]
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = tf.keras.optimizers.Adam(
        _models.LEARNING_RATE, _models.BETA_1, _models.BETA_2, _models.EPSILON
    )

    def train(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        if as_gradient is not None:
            gradients = map(as_gradient, gradients)
        optimizer.apply_gradients(zip(gradients, variables))
        return loss

    if compiled:
        train = tf.function(train)

    def step(i):
        return train(*batches[i % len(batches)])

    return _contend.training(step, float, quick, note)


MODELS = {"mlp": mlp_model, "cnn": cnn_model, "gpt": gpt_model}
