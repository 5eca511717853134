"""Learns to write like Isaac Newton, character by character: python examples/character_gpt.py

A small transformer, in a training loop of its own. Its loss on text that it never saw is compared
with that of a bigram model, which knows how often each character follows each other one.
"""

import argparse
import pathlib
import time

import gradtape as tf
import numpy as np

TEXT = pathlib.Path(__file__).parent / "data" / "opticks.txt"
layers = tf.keras.layers


class Block(layers.Layer):
    """Attention and two dense layers, each added to what came in."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.before_attention = layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.before_dense = layers.LayerNormalization()
        self.dense = tf.keras.Sequential(
            [layers.Dense(4 * width, activation="gelu"), layers.Dense(width)]
        )
        self.dropout = layers.Dropout(dropout)

    def call(self, x):
        """Computes the outputs."""
        y = self.before_attention(x)
        x = x + self.dropout(self.attention(y, y, use_causal_mask=True))
        return x + self.dropout(self.dense(self.before_dense(x)))


class GPT(tf.keras.Model):
    """Scores for the next character at each position."""

    def __init__(self, characters, length, width, heads, depth, dropout=0.1):
        super().__init__()
        self.token = layers.Embedding(characters, width)
        self.position = layers.Embedding(length, width)
        self.blocks = [Block(width, heads, dropout) for _ in range(depth)]
        self.norm = layers.LayerNormalization()
        self.head = layers.Dense(characters)

    def call(self, ids):
        """Computes the outputs."""
        x = self.token(ids) + self.position(tf.range(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def bigram_loss(learn, held_out, characters):
    """Cross-entropy on `held_out` of how often each character follows each in `learn`."""
    counts = np.ones((characters, characters))
    np.add.at(counts, (learn[:-1], learn[1:]), 1.0)
    chances = counts / counts.sum(1, keepdims=True)
    return float(-np.log(chances[held_out[:-1], held_out[1:]]).mean())


def windows(ids, count, length, random):
    """Random windows of text, and the characters that follow each of theirs."""
    starts = random.integers(0, len(ids) - length - 1, count)
    rows = starts[:, None] + np.arange(length + 1)
    return ids[rows[:, :-1]], ids[rows[:, 1:]]


def main(arguments=None):
    """Trains the model; returns its loss and that of the bigram model on text held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--text", type=pathlib.Path, default=TEXT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few steps of a smaller model")
    options = parser.parse_args(arguments)
    if options.quick:
        options.steps, options.length, options.width, options.depth = 60, 16, 32, 1

    text = options.text.read_text()
    alphabet = sorted(set(text))
    number = {character: i for i, character in enumerate(alphabet)}
    ids = np.array([number[character] for character in text], np.int32)
    learn, held_out = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
    bigram = bigram_loss(learn, held_out, len(alphabet))
    print(f"{len(text)} characters, {len(alphabet)} different; a bigram model's loss: {bigram:.3f}")

    tf.keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    model = GPT(len(alphabet), options.length, options.width, options.heads, options.depth)
    loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = tf.keras.optimizers.Adam(3e-3)
    average = tf.keras.metrics.Mean()

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        average.update_state(loss)

    begin = time.perf_counter()
    for step in range(1, options.steps + 1):
        optimizer.learning_rate = 3e-3 * (1.0 - 0.9 * step / options.steps)
        train_step(*windows(learn, options.batch, options.length, random))
        if step % max(options.steps // 10, 1) == 0:
            print(f"step {step}: {average.result():.3f}, {time.perf_counter() - begin:.0f} s")
            average.reset_state()

    x, y = windows(held_out, 200, options.length, random)
    loss = float(np.mean([loss_fn(y[i : i + 20], model(x[i : i + 20])) for i in range(0, 200, 20)]))
    print(f"loss on text held out: {loss:.3f}; the bigram model's: {bigram:.3f}")
    print(write(model, alphabet, options.length, 40 if options.quick else 300, random))
    return loss, bigram


def write(model, alphabet, length, count, random):
    """Lets the model write."""
    ids = [alphabet.index("\n")]
    for _ in range(count):
        scores = model(np.array([ids[-length:]], np.int32)).numpy()[0, -1]
        chances = np.exp(scores - scores.max())
        ids.append(int(random.choice(len(alphabet), p=chances / chances.sum())))
    return "".join(alphabet[i] for i in ids).strip()


if __name__ == "__main__":
    main()
