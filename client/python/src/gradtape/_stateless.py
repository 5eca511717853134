"""Random tensors that depend on nothing but the arguments (`tf.random.stateless_normal`)."""

from __future__ import annotations

from typing import Any

from gradtape import _distributions, dtypes
from gradtape._generator import stateless
from gradtape.tensor import Tensor


def stateless_normal(
    shape: Any,
    seed: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:
    """Returns normal random numbers that depend on nothing but the arguments.

    Args:
        shape: Shape of the result.
        seed: Two integers.
        mean: Mean.
        stddev: Standard deviation.
        dtype: Element type, a floating-point one.
        name: Ignored.
        alg: Ignored.
    """
    return _distributions.normal(stateless(seed), shape, mean, stddev, dtype)


def stateless_uniform(
    shape: Any,
    seed: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:
    """Returns uniform random numbers that depend on nothing but the arguments.

    Args:
        shape: Shape of the result.
        seed: Two integers.
        minval: Smallest number.
        maxval: Number above all; 1 by default. Integers must give it.
        dtype: Element type, of integers too.
        name: Ignored.
        alg: Ignored.
    """
    return _distributions.uniform(stateless(seed), shape, minval, maxval, dtype)


def stateless_truncated_normal(
    shape: Any,
    seed: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:
    """Returns normal random numbers of at most two standard deviations from the mean.

    Args:
        shape: Shape of the result.
        seed: Two integers.
        mean: Mean before the cut.
        stddev: Standard deviation before the cut.
        dtype: Element type, a floating-point one.
        name: Ignored.
        alg: Ignored.
    """
    return _distributions.truncated_normal(stateless(seed), shape, mean, stddev, dtype)


def stateless_parameterized_truncated_normal(
    shape: Any,
    seed: Any,
    means: Any = 0.0,
    stddevs: Any = 1.0,
    minvals: Any = -2.0,
    maxvals: Any = 2.0,
    name: str | None = None,
) -> Tensor:
    """Returns normal random numbers between bounds.

    Args:
        shape: Shape of the result, to which all that follow broadcast.
        seed: Two integers.
        means: Means before the cut.
        stddevs: Standard deviations before the cut.
        minvals: Lower bounds.
        maxvals: Upper bounds.
        name: Ignored.
    """
    return _distributions.bounded_normal(stateless(seed), shape, means, stddevs, minvals, maxvals)


def stateless_gamma(
    shape: Any,
    seed: Any,
    alpha: Any,
    beta: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """Returns gamma variables, differentiable by `alpha` and `beta`.

    Args:
        shape: Shape of the result, to which `alpha` and `beta` broadcast.
        seed: Two integers.
        alpha: Shapes of the distributions.
        beta: Inverse scales, 1 by default.
        dtype: Element type, a floating-point one.
        name: Ignored.
    """
    return _distributions.gamma(stateless(seed), shape, alpha, beta, dtype)


def stateless_poisson(
    shape: Any, seed: Any, lam: Any, dtype: Any = dtypes.int32, name: str | None = None
) -> Tensor:
    """Returns Poisson variables of the rates `lam`, which broadcast to the shape."""
    return _distributions.poisson(stateless(seed), shape, lam, dtype)


def stateless_categorical(
    logits: Any,
    num_samples: int,
    seed: Any,
    dtype: Any = dtypes.int64,
    name: str | None = None,
) -> Tensor:
    """Returns numbers of classes, `num_samples` for each row of logits."""
    return _distributions.categorical(stateless(seed), logits, num_samples, dtype)


def stateless_binomial(
    shape: Any,
    seed: Any,
    counts: Any,
    probs: Any,
    output_dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """Returns numbers of successes. They are made in this process, by NumPy.

    Args:
        shape: Shape of the result, to which `counts` and `probs` broadcast.
        seed: Two integers.
        counts: Numbers of trials; they are fetched.
        probs: Probabilities of success; they are fetched.
        output_dtype: Dtype of the result.
        name: Ignored.
    """
    return _distributions.binomial(stateless(seed), shape, counts, probs, output_dtype)
