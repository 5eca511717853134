"""Random tensors (`tf.random`). They are made on the server by a counter-based generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtape import _distributions, _ops, dtypes
from gradtape._distributions import Draw
from gradtape._export import integers
from gradtape._generator import (
    Algorithm,
    Generator,
    create_rng_state,
    fold_in,
    get_global_generator,
    global_generator,
    set_global_generator,
    set_seed,
    split,
)
from gradtape._stateless import (
    stateless_binomial,
    stateless_categorical,
    stateless_gamma,
    stateless_normal,
    stateless_parameterized_truncated_normal,
    stateless_poisson,
    stateless_truncated_normal,
    stateless_uniform,
)
from gradtape.tensor import Tensor, Value, convert_to_tensor


def normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns normal random numbers, other ones at each call.

    Args:
        shape: Shape of the result.
        mean: Mean.
        stddev: Standard deviation.
        dtype: Element type, a floating-point one.
        seed: Starts a sequence of its own: its calls give the same numbers in each run.
        name: Ignored.
    """
    return _distributions.normal(_draw(seed), shape, mean, stddev, dtype)


def uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns uniform random numbers, other ones at each call.

    Args:
        shape: Shape of the result.
        minval: Smallest number.
        maxval: Number above all; 1 by default. Integers must give it.
        dtype: Element type, of integers too.
        seed: Starts a sequence of its own: its calls give the same numbers in each run.
        name: Ignored.
    """
    return _distributions.uniform(_draw(seed), shape, minval, maxval, dtype)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns normal random numbers of at most two standard deviations from the mean.

    Args:
        shape: Shape of the result.
        mean: Mean.
        stddev: Standard deviation before the cut.
        dtype: Element type, a floating-point one.
        seed: Starts a sequence of its own: its calls give the same numbers in each run.
        name: Ignored.
    """
    return _distributions.truncated_normal(_draw(seed), shape, mean, stddev, dtype)


def gamma(
    shape: Any,
    alpha: Any,
    beta: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns gamma variables, differentiable by `alpha` and `beta`.

    Args:
        shape: Shape of what is drawn for each pair of `alpha` and `beta`, whose axes follow.
        alpha: Shapes of the distributions.
        beta: Inverse scales, 1 by default.
        dtype: Element type, a floating-point one.
        seed: Starts a sequence of its own: its calls give the same numbers in each run.
        name: Ignored.
    """
    alpha = alpha if isinstance(alpha, Value) else convert_to_tensor(alpha, dtype)
    inner = tuple(alpha.shape)
    if beta is not None:
        inner = np.broadcast_shapes(inner, np.shape(beta))
    return _distributions.gamma(_draw(seed), (*integers(shape), *inner), alpha, beta, dtype)


def poisson(
    shape: Any,
    lam: Any,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns Poisson variables, of a shape for each of the rates `lam`, whose axes follow."""
    shape = (*integers(shape), *np.shape(lam))
    return _distributions.poisson(_draw(seed), shape, lam, dtype)


def categorical(
    logits: Any,
    num_samples: int,
    dtype: Any = None,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns numbers of classes, `num_samples` for each row of logits; int64 by default."""
    return _distributions.categorical(_draw(seed), logits, num_samples, dtype)


def shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """Returns the slices along the first axis in random order."""
    value = value if isinstance(value, Value) else convert_to_tensor(value)
    order = _distributions.permutation(_draw(seed), value.shape[0])
    return _ops.gather(value, order)  # type: ignore[no-any-return]


def _draw(seed: int | None) -> Draw:
    return global_generator(seed)._draw


__all__ = [
    "Algorithm", "Generator", "categorical", "create_rng_state", "fold_in", "gamma",
    "get_global_generator", "normal", "poisson", "set_global_generator", "set_seed", "shuffle",
    "split", "stateless_binomial", "stateless_categorical", "stateless_gamma", "stateless_normal",
    "stateless_parameterized_truncated_normal", "stateless_poisson", "stateless_truncated_normal",
    "stateless_uniform", "truncated_normal", "uniform",
]  # fmt: skip
