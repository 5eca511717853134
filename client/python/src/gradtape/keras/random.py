"""Random numbers as Keras has them (`keras.random`).

A seed that is a number gives the same numbers at each call, a `SeedGenerator` others at each, and
None those of the global generator, which `keras.utils.set_random_seed` seeds.
"""

from __future__ import annotations

import math
import secrets
from typing import Any

import numpy as np

import gradtape as tf
from gradtape import _ops, dtypes, random
from gradtape._export import integers
from gradtape.keras import backend
from gradtape.keras._configured import Configured

# Shares of a standard normal distribution below -2 and below 2.
_BELOW, _UP_TO = 0.022750131948179195, 0.9772498680518208


class SeedGenerator(Configured):
    """Gives other seeds at each use, the same sequence for the same first seed.

    Args:
        seed: The first seed; one that nobody knows by default.
        name: Name for people.
        **kwargs: Ignored.
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any) -> None:
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"Argument `seed` must be an integer. Received: seed={seed}")
        self.name = name or "seed_generator"
        self._seed = secrets.randbits(31) if seed is None else seed
        self._generator = random.Generator(random._mix(self._seed, 0))

    def next(self, ordered: bool = True) -> Any:
        """Returns a seed: two integers that no other call returns."""
        return self._generator._draw(1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such a generator."""
        return {"seed": self._seed}


def draw_of(seed: Any) -> random.Draw:
    """Returns the function that says from which state a number of numbers is drawn."""
    if seed is None:
        return random.get_global_generator()._draw
    if isinstance(seed, SeedGenerator):
        return seed._generator._draw
    return random._state((int(seed), 0))


def _dtype(dtype: Any) -> dtypes.DType:
    return tf.as_dtype(backend.floatx() if dtype is None else dtype)


def normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Returns normal numbers."""
    return random._normal(draw_of(seed), shape, mean, stddev, _dtype(dtype))


def uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Returns numbers from `minval` up to `maxval`, which is left out."""
    return random._uniform(draw_of(seed), shape, minval, maxval, _dtype(dtype))


def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """Returns integers from `minval` up to `maxval`, which is left out."""
    if not tf.as_dtype(dtype).is_integer:
        raise ValueError(f"`keras.random.randint` requires an integer `dtype`, got {dtype}")
    return random._uniform(draw_of(seed), shape, minval, maxval, tf.as_dtype(dtype))


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Returns normal numbers within two standard deviations of the mean."""
    shares = random._uniform(draw_of(seed), shape, _BELOW, _UP_TO, tf.float32)
    numbers = tf.clip_by_value(_ops.ndtri(shares), -2.0, 2.0) * stddev + mean
    return tf.cast(numbers, _dtype(dtype))


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """Returns class numbers for each row of logarithms of probabilities."""
    logits = tf.convert_to_tensor(logits)
    state = draw_of(seed)(logits.shape[0] * num_samples)
    return tf.cast(_ops.random_categorical(state, logits, num_samples=num_samples), dtype)


def gamma(shape: Any, alpha: Any, dtype: Any = None, seed: Any = None) -> Any:
    """Returns gamma variables of scale 1."""
    shape = integers(shape)
    alphas = tf.broadcast_to(tf.cast(tf.convert_to_tensor(alpha), _dtype(dtype)), shape)
    return _ops.random_gamma(draw_of(seed)(math.prod(shape)), alphas)


def beta(shape: Any, alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> Any:
    """Returns beta variables."""
    # Two independent gamma variables: a number that is a seed gives two sequences.
    first = seed if seed is None or isinstance(seed, SeedGenerator) else random._mix(seed, 1)
    x = gamma(shape, alpha, dtype, first)
    return x / (x + gamma(shape, beta, dtype, seed))


def binomial(
    shape: Any, counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None
) -> Any:
    """Returns how many of `counts` trials succeed, each with the same probability."""
    shape = integers(shape)
    most = int(np.max(np.asarray(counts), initial=0))
    number = tf.cast(tf.convert_to_tensor(counts), tf.float32)
    chances = tf.cast(tf.convert_to_tensor(probabilities), tf.float32)
    trials = random._uniform(draw_of(seed), (*shape, most), 0.0, 1.0, tf.float32)
    made = tf.range(most, dtype=tf.float32) < tf.expand_dims(tf.broadcast_to(number, shape), -1)
    hits = trials < tf.expand_dims(tf.broadcast_to(chances, shape), -1)
    both = tf.cast(tf.logical_and(made, hits), _dtype(dtype))
    return tf.reduce_sum(both, axis=-1)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Any:
    """Returns a tensor whose slices along an axis are in random order."""
    x = tf.convert_to_tensor(x)
    count = x.shape[axis]
    return tf.gather(x, _ops.random_permutation(draw_of(seed)(count), n=count), axis=axis)


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """Returns the inputs with a share set to zero and the rest scaled up."""
    inputs = tf.convert_to_tensor(inputs)
    if rate == 0:
        return inputs
    pairs = zip(noise_shape or inputs.shape, inputs.shape, strict=True)
    shape = [extent if given is None else given for given, extent in pairs]
    kept = random._uniform(draw_of(seed), shape, 0.0, 1.0, tf.float32) >= rate
    return tf.where(kept, inputs / (1.0 - rate), tf.zeros_like(inputs))


__all__ = [
    "SeedGenerator", "beta", "binomial", "categorical", "dropout", "gamma", "normal", "randint",
    "shuffle", "truncated_normal", "uniform",
]  # fmt: skip
