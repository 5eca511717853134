"""Images changed at random (`tf.image.random_flip_left_right`).

Each change is there twice: with numbers that are others at each call, and, as "stateless", with
numbers that depend on nothing but a seed of two integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtape import _distributions, _export, _ops, dtypes
from gradtape._distributions import Draw
from gradtape._generator import global_generator, stateless
from gradtape.image import (
    _batched,
    _value,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)
from gradtape.tensor import Tensor, Value


def _fresh(seed: int | None) -> Draw:
    return global_generator(seed)._draw


def _between(draw: Draw, low: Any, high: Any) -> Tensor:
    return _distributions.uniform(draw, (), low, high, dtypes.float32)


def _check_range(lower: float, upper: float) -> None:
    if not 0 <= lower < upper:
        raise ValueError(f"need 0 <= lower < upper, got {lower} and {upper}")


def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """Adjusts the brightness by a number from [-max_delta, max_delta)."""
    return _brightness(image, max_delta, _fresh(seed))


def stateless_random_brightness(image: Any, max_delta: float, seed: Any) -> Tensor:
    """Adjusts the brightness by a number from [-max_delta, max_delta)."""
    return _brightness(image, max_delta, stateless(seed))


def _brightness(image: Any, max_delta: float, draw: Draw) -> Tensor:
    if max_delta < 0:
        raise ValueError("max_delta must be non-negative.")
    return adjust_brightness(image, _between(draw, -max_delta, max_delta))


def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """Adjusts the contrast by a factor from [lower, upper)."""
    return _contrast(image, lower, upper, _fresh(seed))


def stateless_random_contrast(image: Any, lower: float, upper: float, seed: Any) -> Tensor:
    """Adjusts the contrast by a factor from [lower, upper)."""
    return _contrast(image, lower, upper, stateless(seed))


def _contrast(image: Any, lower: float, upper: float, draw: Draw) -> Tensor:
    _check_range(lower, upper)
    return adjust_contrast(image, _between(draw, lower, upper))


def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """Adjusts the saturation by a factor from [lower, upper)."""
    return _saturation(image, lower, upper, _fresh(seed))


def stateless_random_saturation(image: Any, lower: float, upper: float, seed: Any = None) -> Tensor:
    """Adjusts the saturation by a factor from [lower, upper)."""
    return _saturation(image, lower, upper, stateless(seed))


def _saturation(image: Any, lower: float, upper: float, draw: Draw) -> Tensor:
    _check_range(lower, upper)
    return adjust_saturation(image, _between(draw, lower, upper))


def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """Turns the hue by a share from [-max_delta, max_delta)."""
    return _hue(image, max_delta, _fresh(seed))


def stateless_random_hue(image: Any, max_delta: float, seed: Any) -> Tensor:
    """Turns the hue by a share from [-max_delta, max_delta)."""
    return _hue(image, max_delta, stateless(seed))


def _hue(image: Any, max_delta: float, draw: Draw) -> Tensor:
    if not 0 <= max_delta <= 0.5:
        raise ValueError("max_delta must be between 0 and 0.5.")
    return adjust_hue(image, _between(draw, -max_delta, max_delta))


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """Cuts out a window at a random place, which is fetched."""
    return _crop(value, size, _fresh(seed))


def stateless_random_crop(value: Any, size: Any, seed: Any, name: str | None = None) -> Tensor:
    """Cuts out a window at a random place, which is fetched."""
    return _crop(value, size, stateless(seed))


def _crop(value: Any, size: Any, draw: Draw) -> Tensor:
    value, size = _value(value), _export.integers(size)
    shares = _distributions.uniform(draw, (len(size),), 0, 1, dtypes.float32).numpy()
    room = np.array(value.shape) - np.array(size) + 1
    if (room < 1).any():
        raise ValueError(f"Need value.shape >= size, got {value.shape} and {size}")
    return _ops.slice(value, begin=tuple(np.floor(shares * room).astype(int).tolist()), size=size)


def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor:
    """Mirrors each image along its width with probability 1 / 2."""
    return _flipped(image, 2, _fresh(seed))


def stateless_random_flip_left_right(image: Any, seed: Any) -> Tensor:
    """Mirrors each image along its width with probability 1 / 2."""
    return _flipped(image, 2, stateless(seed))


def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor:
    """Mirrors each image along its height with probability 1 / 2."""
    return _flipped(image, 1, _fresh(seed))


def stateless_random_flip_up_down(image: Any, seed: Any) -> Tensor:
    """Mirrors each image along its height with probability 1 / 2."""
    return _flipped(image, 1, stateless(seed))


def _flipped(image: Any, axis: int, draw: Draw) -> Tensor:
    def flipped(images: Value) -> Value:
        shape = (images.shape[0], 1, 1, 1)
        coins = _distributions.uniform(draw, shape, 0, 1, dtypes.float32) < 0.5
        return _ops.where(coins, _ops.reverse(images, axis=(axis,)), images)

    return _batched(image, flipped)
