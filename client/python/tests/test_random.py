"""Random numbers: their distributions by SciPy-free moments, and what their seeds promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradtape as tf

# Of a normal distribution cut at two deviations: 1 - 4 phi(2) / (Phi(2) - Phi(-2)).
CUT = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
COUNT = 20_000
# What draws so many numbers, and their mean and variance.
MOMENTS: dict[str, tuple[Callable[[], Any], float, float]] = {
    "truncated": (lambda: tf.random.truncated_normal([COUNT], 1.0, 2.0), 1.0, 4 * CUT),
    "stateless truncated": (
        lambda: tf.random.stateless_truncated_normal([COUNT], (1, 2)),
        0.0,
        CUT,
    ),
    "bounded": (
        lambda: tf.random.stateless_parameterized_truncated_normal([COUNT], (3, 4)),
        0.0,
        CUT,
    ),
    "gamma": (lambda: tf.random.gamma([COUNT], 3.0, 2.0), 1.5, 0.75),
    "stateless gamma": (lambda: tf.random.stateless_gamma([COUNT], (5, 6), 0.5), 0.5, 0.5),
    "poisson": (lambda: tf.random.poisson([COUNT], 4.0), 4.0, 4.0),
    "stateless poisson": (lambda: tf.random.stateless_poisson([COUNT], (7, 8), 9.0), 9.0, 9.0),
    "categorical": (lambda: tf.random.categorical([[0.0, math.log(3.0)]], COUNT), 0.75, 3 / 16),
    "stateless categorical": (
        lambda: tf.random.stateless_categorical([[0.0, 0.0]], COUNT, (1, 1)),
        0.5,
        0.25,
    ),
    "binomial": (lambda: tf.random.stateless_binomial([COUNT], (2, 3), 10, 0.3), 3.0, 2.1),
    "whole range": (
        lambda: tf.random.Generator.from_seed(1).uniform_full_int([COUNT]) / 2**62,
        0.0,
        4 / 3,
    ),
    "whole range of int32": (
        lambda: tf.random.uniform([COUNT], None, None, tf.int32, seed=5) / 2**30,
        0.0,
        4 / 3,
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_mean_and_variance_are_the_distributions(name: str) -> None:
    tf.random.set_seed(11)
    draw, mean, variance = MOMENTS[name]
    numbers = draw().numpy().astype(np.float64)
    # Six standard errors; that of the variance is below sqrt(10 / n) of it, but for heavy tails.
    assert numbers.mean() == pytest.approx(mean, abs=6 * math.sqrt(variance / COUNT))
    assert numbers.var() == pytest.approx(variance, rel=6 * math.sqrt(17 / COUNT))


def test_bounds_hold_far_from_the_mean() -> None:
    draw = tf.random.stateless_parameterized_truncated_normal
    for low, high in ((5.0, 5.5), (-7.0, -6.0), (-1.0, math.inf)):
        numbers = draw([1_000], (1, 2), 0.0, 1.0, low, high).numpy()
        assert numbers.min() >= low
        assert numbers.max() <= high
        assert len(np.unique(numbers)) > 500


def test_a_generator_goes_on_from_its_state() -> None:
    generator = tf.random.Generator.from_seed(7)
    generator.normal([5])
    state = generator.state.numpy()
    rest = generator.uniform([3]).numpy()
    for again in (
        tf.random.Generator.from_state(state),
        tf.random.Generator.from_key_counter(7, state[0]),
        tf.random.Generator(copy_from=tf.random.Generator.from_state(state)),
    ):
        assert (again.uniform([3]).numpy() == rest).all()
    generator.reset_from_seed(7)
    generator.skip(5)
    assert (generator.uniform([3]).numpy() == rest).all()
    generator.reset(tf.random.create_rng_state(7, "philox"))
    assert generator.state.numpy().tolist() == [0, 0, 7]
    first, second = generator.split(2)
    assert (first.normal([4]).numpy() != second.normal([4]).numpy()).all()
    assert generator.make_seeds(3).shape == (2, 3)


def test_seeds_split_and_fold_into_others() -> None:
    seeds = tf.random.split((1, 2), 3)
    assert (seeds.shape, seeds.dtype) == ((3, 2), tf.int32)
    others = [tf.random.fold_in((1, 2), i).numpy().tolist() for i in range(3)]
    assert len({tuple(seed) for seed in [*seeds.numpy().tolist(), *others]}) == 6
    assert (tf.random.split((1, 2), 3).numpy() == seeds.numpy()).all()
    assert tf.random.fold_in(tf.constant([1, 2], tf.int64), 5).dtype is tf.int64


def test_a_shuffle_keeps_every_row() -> None:
    x = tf.reshape(tf.range(40), [20, 2])
    mixed = tf.random.shuffle(x, seed=1).numpy()
    assert mixed.tolist() != x.numpy().tolist()
    assert sorted(mixed.tolist()) == x.numpy().tolist()


def test_the_gradient_of_gamma_goes_to_its_parameters() -> None:
    alpha, beta = tf.Variable([2.0, 3.0]), tf.Variable(2.0)
    with tf.GradientTape() as tape:
        drawn = tf.random.stateless_gamma([100, 2], (1, 2), alpha, beta)
        y = tf.reduce_mean(drawn)
    of_alpha, of_beta = tape.gradient(y, [alpha, beta])
    assert (of_alpha.numpy() > 0).all()
    assert float(of_beta) == pytest.approx(-float(y) / 2, rel=1e-5)


def test_images_change_as_their_seed_says() -> None:
    image = tf.constant(np.random.default_rng(1).random((8, 4, 4, 3), np.float32))
    changes = {
        "brightness": (0.5,),
        "contrast": (0.2, 0.9),
        "saturation": (0.2, 0.9),
        "hue": (0.3,),
        "flip_left_right": (),
        "flip_up_down": (),
    }
    for name, arguments in changes.items():
        change = getattr(tf.image, f"stateless_random_{name}")
        one, two, other = (
            change(image, *arguments, seed=s).numpy() for s in ((1, 2), (1, 2), (3, 4))
        )
        assert (one == two).all(), name
        assert (one != other).any(), name
    crop = tf.image.stateless_random_crop(image, [8, 2, 2, 3], (1, 2)).numpy()
    windows = [image.numpy()[:, i : i + 2, j : j + 2] for i in range(3) for j in range(3)]
    assert any((crop == window).all() for window in windows)
