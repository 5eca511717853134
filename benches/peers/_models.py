"""The models' parameters and data, the same numbers in every language.

Weights are uniform between plus and minus one over the root of the fan-in, biases zero, gains one.
The numbers come from the position of an element by a hash (MurmurHash3's finaliser), so no file has
to travel. The twin of this module is `benches/src/ours/numbers.rs`.
"""

import math

import numpy as np

LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
BATCHES = 8

MLP = {"batch": 128, "inputs": 784, "hidden": 128, "classes": 10}
CNN = {"batch": 64, "side": 28, "filters": (32, 64), "classes": 10}
GPT = {"batch": 16, "length": 64, "width": 64, "heads": 4, "depth": 2, "characters": 65}
LAYER_NORM_EPSILON = 1e-5


def hashed(salt, count):
    """`count` pseudo-random 32-bit numbers."""
    h = np.arange(count, dtype=np.uint32) + np.uint32(salt * 0x9E3779B9 % 2**32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h


def uniform(salt, shape, scale):
    """Numbers between plus and minus `scale`."""
    h = hashed(salt, math.prod(shape)).astype(np.float64)
    return ((h / 2**32 - 0.5) * (2.0 * scale)).astype(np.float32).reshape(shape)


def classes(salt, shape, count):
    """Class numbers below `count`."""
    return (hashed(salt, math.prod(shape)) % np.uint32(count)).astype(np.int32).reshape(shape)


def parameters(specification):
    """First values of (shape, fan_in) pairs, where 0 stands for zeros and -1 for ones."""
    values = []
    for salt, (shape, fan_in) in enumerate(specification, start=1):
        if fan_in > 0:
            values.append(uniform(salt, shape, 1.0 / math.sqrt(fan_in)))
        else:
            values.append(np.full(shape, -fan_in, np.float32))
    return values


def mlp():
    """Kernel and bias of both layers."""
    i, h, c = MLP["inputs"], MLP["hidden"], MLP["classes"]
    return parameters([((i, h), i), ((h,), 0), ((h, c), h), ((c,), 0)])


def mlp_batches():
    """Inputs and labels."""
    b, i, c = MLP["batch"], MLP["inputs"], MLP["classes"]
    return [(uniform(1000 + n, (b, i), 1.0), classes(2000 + n, (b,), c)) for n in range(BATCHES)]


def cnn():
    """Kernel and bias of both convolutions and of the dense layer; channels are the last axis."""
    f, g = CNN["filters"]
    flat, c = (CNN["side"] // 4) ** 2 * g, CNN["classes"]
    specification = [((3, 3, 1, f), 9), ((f,), 0), ((3, 3, f, g), 9 * f), ((g,), 0)]
    return parameters([*specification, ((flat, c), flat), ((c,), 0)])


def cnn_batches():
    """Images and labels."""
    b, s, c = CNN["batch"], CNN["side"], CNN["classes"]
    shape = (b, s, s, 1)
    return [(uniform(1000 + n, shape, 1.0), classes(2000 + n, (b,), c)) for n in range(BATCHES)]


def gpt():
    """Both tables; the blocks, twelve each; gain and offset; kernel and bias of the head.

    A block: gain and offset, kernel and bias of queries, keys and values together, kernel and bias
    of the output, gain and offset, kernel and bias of the wide and of the narrow layer.
    """
    w, v, n = GPT["width"], GPT["characters"], GPT["length"]
    norm = [((w,), -1), ((w,), 0)]
    attention = [((w, 3 * w), w), ((3 * w,), 0), ((w, w), w), ((w,), 0)]
    dense = [((w, 4 * w), w), ((4 * w,), 0), ((4 * w, w), 4 * w), ((w,), 0)]
    block = [*norm, *attention, *norm, *dense]
    tables = [((v, w), w), ((n, w), w)]
    return parameters([*tables, *block * GPT["depth"], *norm, ((w, v), w), ((v,), 0)])


def gpt_batches():
    """Characters and the ones that follow each."""
    b, n, v = GPT["batch"], GPT["length"], GPT["characters"]
    rows = [classes(1000 + i, (b, n + 1), v) for i in range(BATCHES)]
    return [(row[:, :-1].copy(), row[:, 1:].copy()) for row in rows]
