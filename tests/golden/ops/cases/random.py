"""Random numbers: Philox 4x32-10 written out, and the quantiles of SciPy."""

import jax
import numpy as np
import scipy.special
import scipy.stats
from make import DType, array, case

WORD = 0xFFFFFFFF
STATE = array([7, 2**33 + 5], "int64")
COUNT = 12


def blocks(state, count):
    """The blocks of a state: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011."""
    for i in range(count):
        at, key = int(state[1]) + i, int(state[0])
        counter, key = [at & WORD, at >> 32, 0, 0], [key & WORD, key >> 32]
        for _ in range(10):
            a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
            counter = [(b >> 32) ^ counter[1] ^ key[0], b & WORD, (a >> 32) ^ counter[3] ^ key[1], a & WORD]
            key = [(key[0] + 0x9E3779B9) & WORD, (key[1] + 0xBB67AE85) & WORD]
        yield counter


def unit(high, low):
    return ((high << 32 | low) >> 11) * 2.0**-53


def uniforms(state, shape):
    """Numbers in [0, 1)."""
    return np.array([unit(a, b) for a, b, _, _ in blocks(state, int(np.prod(shape)))]).reshape(shape)


def normals(state, shape):
    """Box and Muller's transform of two uniform numbers each."""
    pairs = [(unit(a, b), unit(c, d)) for a, b, c, d in blocks(state, int(np.prod(shape)))]
    return np.array([np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v) for u, v in pairs]).reshape(shape)


def gamma(state, alpha):
    """The quantile, and its derivative by JAX's implicit one."""
    numbers = scipy.special.gammaincinv(np.asarray(jax.lax.stop_gradient(alpha), "float64"), uniforms(state, alpha.shape))
    numbers = jax.numpy.asarray(numbers, alpha.dtype)
    slope = jax.lax.random_gamma_grad(jax.lax.stop_gradient(alpha), numbers)
    return numbers + slope * (alpha - jax.lax.stop_gradient(alpha))


def poisson(state, rate):
    """The smallest number that is reached with a larger probability; SciPy says so of the same or a larger one."""
    return scipy.stats.poisson.ppf(uniforms(state, rate.shape), rate).astype(rate.dtype)


def categorical(state, logits, samples):
    """Each row by itself, through the distribution function."""
    drawn = uniforms(state, [len(logits), samples])
    sums = np.cumsum(scipy.special.softmax(logits.astype("float64"), axis=1), axis=1)
    return np.array([np.searchsorted(row, numbers, "right") for row, numbers in zip(sums, drawn, strict=True)])


def permutation(state, n):
    """Fisher and Yates' shuffle, from the end."""
    numbers, order = uniforms(state, [n]), list(range(n))
    for last in range(n - 1, 0, -1):
        pick = int(numbers[last] * (last + 1))
        order[last], order[pick] = order[pick], order[last]
    return np.array(order, "int64")


ALPHAS = array([1e-2, 0.3, 0.9, 1.0, 1.7, 5.0, 20.0, 300.0, 1e4, 2.5, 0.05, 60.0], "float64")

CASES = [
    case("random_uniform", [STATE], lambda s: uniforms(s, [3, 4]).astype("float32"), by="numpy", shape=[3, 4]),
    case("random_uniform", [STATE], lambda s: uniforms(s, [COUNT]) * 3 - 1, by="numpy", shape=[COUNT], dtype=DType("float64"), minval=-1.0, maxval=2.0),
    case("random_normal", [STATE], lambda s: normals(s, [3, 4]).astype("float32"), by="numpy", shape=[3, 4]),
    case("random_normal", [STATE], lambda s: normals(s, [COUNT]) * 0.5 + 2, by="numpy", shape=[COUNT], dtype=DType("float64"), mean=2.0, stddev=0.5),
    case("random_gamma", [STATE, ALPHAS], lambda s, a: scipy.special.gammaincinv(a, uniforms(s, a.shape)), by="numpy"),
    case("random_gamma", [STATE, array([0.3, 0.9, 1.0, 1.7, 5.0, 20.0, 2.5, 60.0])], gamma, by="jax", tolerance=1e-4),
    case("random_poisson", [STATE, array([0.0, 0.1, 1.0, 3.5, 10.0, 99.5, 1e3, 5e4], "float64")], poisson, by="numpy"),
    case("random_bernoulli", [STATE, array([0.0, 1.0, 0.5, 0.9, 0.1, 0.3])], lambda s, p: uniforms(s, p.shape) < p, by="numpy"),
    case("random_categorical", [STATE, array([[0.0, 1.0, 2.0], [-float("inf"), 0.5, 0.5]])], lambda s, x: categorical(s, x, 6), by="numpy", num_samples=6),
    case("random_permutation", [STATE], lambda s: permutation(s, 9), by="numpy", n=9),
    case("random_permutation", [STATE], lambda s: permutation(s, 0), by="numpy", n=0),
]
