"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradtape as tf


def linear(x: Any) -> Any:
    """Returns `x` unchanged."""
    return x


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None) -> Any:
    """Rectifier, with a slope for negative inputs and an upper bound if they are given."""
    y = tf.nn.leaky_relu(x, alpha=negative_slope) if negative_slope else tf.nn.relu(x)
    return y if max_value is None else tf.minimum(y, max_value)


def relu6(x: Any) -> Any:
    """Rectifier clipped at 6."""
    return tf.nn.relu6(x)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """Rectifier with a slope for negative inputs."""
    return tf.nn.leaky_relu(x, alpha=negative_slope)


def elu(x: Any) -> Any:
    """Exponential linear unit."""
    return tf.nn.elu(x)


def selu(x: Any) -> Any:
    """Scaled exponential linear unit."""
    return tf.nn.selu(x)


def gelu(x: Any, approximate: bool = False) -> Any:
    """Gaussian error linear unit."""
    return tf.nn.gelu(x, approximate=approximate)


def silu(x: Any) -> Any:
    """Sigmoid-weighted linear unit, also called swish."""
    return tf.nn.silu(x)


def sigmoid(x: Any) -> Any:
    """Logistic sigmoid."""
    return tf.sigmoid(x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return tf.tanh(x)


def softmax(x: Any, axis: int = -1) -> Any:
    """Softmax along an axis."""
    return tf.nn.softmax(x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Logarithm of softmax along an axis."""
    return tf.nn.log_softmax(x, axis=axis)


def softplus(x: Any) -> Any:
    """Smooth rectifier."""
    return tf.nn.softplus(x)


def softsign(x: Any) -> Any:
    """Smooth sign."""
    return tf.nn.softsign(x)


def exponential(x: Any) -> Any:
    """Exponential."""
    return tf.exp(x)


_BY_NAME: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        linear, relu, relu6, leaky_relu, elu, selu, gelu, silu, sigmoid, tanh, softmax,
        log_softmax, softplus, softsign, exponential,
    )
} | {"swish": silu}  # fmt: skip


def get(identifier: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """Returns an activation by name; a function is returned as it is, `None` is `linear`."""
    if identifier is None:
        return linear
    if callable(identifier):
        return identifier
    if identifier not in _BY_NAME:
        raise ValueError(
            f"Could not interpret activation function identifier: {identifier!r}. "
            f"There are: {', '.join(sorted(_BY_NAME))}"
        )
    return _BY_NAME[identifier]
