"""JAX: compiled steps, and loops that are compiled whole."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import _contend
import _keras
import _models


def seed(whole_loop, quick):
    """A compiled step that is called 1000 times, or a compiled loop that is called once."""
    x, y = (jnp.asarray(values, jnp.float32) for values in _keras.seed_data())

    def step(_, weights):
        gradients = jax.grad(lambda w, b: jnp.abs(y - (w * x + b)).sum(), (0, 1))(*weights)
        return tuple(weight - 0.001 * slope for weight, slope in zip(weights, gradients))

    first = jnp.float32(0.1), jnp.float32(0.1)
    compiled_step = jax.jit(step)
    compiled_loop = jax.jit(lambda weights: lax.fori_loop(0, 1000, step, weights))

    def work():
        weights = first
        if whole_loop:
            weights = compiled_loop(weights)
        else:
            for i in range(1000):
                weights = compiled_step(i, weights)
        return tuple(map(float, weights))

    outcome = work()
    runs = _contend.LOOP_RUNS if whole_loop else 1
    note = f"warm-up 1000 steps with compilation; a sample is the mean of {runs} run(s)"
    return _contend.Contender(_contend.timed("1000 steps", work, runs=runs), outcome, note)


def adam(parameters, gradients, state):
    """A step of Adam."""
    first, second, count = state
    count = count + 1
    b1, b2 = _models.BETA_1, _models.BETA_2
    first = [b1 * m + (1 - b1) * g for m, g in zip(first, gradients)]
    second = [b2 * v + (1 - b2) * g * g for v, g in zip(second, gradients)]
    rate = _models.LEARNING_RATE / (1 - b1**count)
    correction = jnp.sqrt(1 - b2**count)
    parameters = [
        p - rate * m / (jnp.sqrt(v) / correction + _models.EPSILON)
        for p, m, v in zip(parameters, first, second)
    ]
    return parameters, (first, second, count)


def trained(values, batches, forward, quick):
    """Measures the steps of a training loop, each one call of a compiled function."""

    def loss_of(parameters, x, y):
        scores = jax.nn.log_softmax(forward(parameters, x))
        return -jnp.take_along_axis(scores, y[..., None], -1).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train(parameters, state, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        return *adam(parameters, gradients, state), loss

    parameters = [jnp.asarray(value) for value in values]
    zeros = [jnp.zeros_like(value) for value in parameters]
    state = zeros, [jnp.zeros_like(value) for value in parameters], jnp.float32(0.0)
    held = [parameters, state]
    batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]

    def step(i):
        held[0], held[1], loss = train(*held, *batches[i % len(batches)])
        return loss

    note = f"jit, a call a step, default threads ({os.cpu_count()} cores), batches resident"
    return _contend.training(step, float, quick, note)


def mlp(quick):
    """Two dense layers."""

    def forward(parameters, x):
        w1, b1, w2, b2 = parameters
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2

    return trained(_models.mlp(), _models.mlp_batches(), forward, quick)


def cnn(quick):
    """Two convolutions and a dense layer."""

    def layer(x, kernel, bias):
        numbers = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        window = (1, 2, 2, 1)
        return lax.reduce_window(jax.nn.relu(x + bias), -jnp.inf, lax.max, window, window, "VALID")

    def forward(parameters, x):
        k1, b1, k2, b2, w, b = parameters
        x = layer(layer(x, k1, b1), k2, b2)
        return x.reshape(x.shape[0], -1) @ w + b

    return trained(_models.cnn(), _models.cnn_batches(), forward, quick)


def gpt(quick):
    """A transformer."""
    width, heads, depth = (_models.GPT[name] for name in ("width", "heads", "depth"))

    def norm(x, gain, offset):
        x = x - x.mean(-1, keepdims=True)
        variance = (x * x).mean(-1, keepdims=True)
        return x * lax.rsqrt(variance + _models.LAYER_NORM_EPSILON) * gain + offset

    def block(x, p):
        batch, length, _ = x.shape
        qkv = norm(x, p[0], p[1]) @ p[2] + p[3]
        q, k, v = jnp.split(qkv.reshape(batch, length, 3 * heads, width // heads), 3, axis=2)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + y.reshape(batch, length, width) @ p[4] + p[5]
        y = jax.nn.gelu(norm(x, p[6], p[7]) @ p[8] + p[9], approximate=False)
        return x + y @ p[10] + p[11]

    def forward(p, ids):
        x = p[0][ids] + p[1]
        for i in range(depth):
            x = block(x, p[2 + 12 * i : 14 + 12 * i])
        gain, offset, w, b = p[2 + 12 * depth :]
        return norm(x, gain, offset) @ w + b

    return trained(_models.gpt(), _models.gpt_batches(), forward, quick)


CONTENDERS = {
    ("seed", "jax-step"): functools.partial(seed, False),
    ("seed", "jax-loop"): functools.partial(seed, True),
    ("mlp", "jax-step"): mlp,
    ("cnn", "jax-step"): cnn,
    ("gpt", "jax-step"): gpt,
}

if __name__ == "__main__":
    _contend.main(CONTENDERS, {"jax": jax.__version__, "numpy": np.__version__})
