"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradtape as tf
from gradtape.keras import _registry, serialization


def linear(x: Any) -> Any:
    """Returns `x` unchanged."""
    return x


def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Any:
    """Rectifier: `x` from the threshold to `max_value`, and a line below.

    Args:
        x: The inputs.
        negative_slope: Slope of the line, which is 0 at the threshold.
        max_value: Upper bound of the outputs.
        threshold: Where the line begins.
    """
    if threshold:
        below = negative_slope * (x - threshold)
        y = tf.where(tf.greater_equal(x, threshold), x, below)
    elif negative_slope:
        y = tf.nn.leaky_relu(x, alpha=negative_slope)
    else:
        y = tf.nn.relu(x)
    return y if max_value is None else tf.minimum(y, max_value)


def relu6(x: Any) -> Any:
    """Rectifier clipped at 6."""
    return tf.nn.relu6(x)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """Rectifier with a slope for negative inputs."""
    return tf.nn.leaky_relu(x, alpha=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """Exponential linear unit, whose negative part has the factor `alpha`."""
    y = tf.nn.elu(x)
    return y if alpha == 1.0 else tf.where(tf.greater(x, 0.0), y, alpha * y)


def celu(x: Any, alpha: float = 1.0) -> Any:
    """Exponential linear unit that is smooth for every `alpha`."""
    return tf.maximum(x, 0.0) + alpha * tf.math.expm1(tf.minimum(x, 0.0) / alpha)


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


def hard_sigmoid(x: Any) -> Any:
    """Sigmoid of straight lines: `relu6(x + 3) / 6`."""
    return tf.nn.relu6(x + 3.0) / 6.0


def hard_silu(x: Any) -> Any:
    """`x` times its hard sigmoid, also called hard swish."""
    return x * hard_sigmoid(x)


def hard_tanh(x: Any) -> Any:
    """`x` from -1 to 1."""
    return tf.clip_by_value(x, -1.0, 1.0)


def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """`x` where its magnitude is above the threshold, else 0."""
    return tf.where(tf.greater(tf.abs(x), threshold), x, tf.zeros_like(x))


def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """`x` moved towards 0 by the threshold."""
    return tf.nn.relu(x - threshold) - tf.nn.relu(-x - threshold)


def tanh_shrink(x: Any) -> Any:
    """`x` without its hyperbolic tangent."""
    return x - tf.tanh(x)


def log_sigmoid(x: Any) -> Any:
    """Logarithm of the logistic sigmoid."""
    return tf.math.log_sigmoid(x)


def mish(x: Any) -> Any:
    """`x tanh(softplus(x))`."""
    return x * tf.tanh(tf.nn.softplus(x))


def squareplus(x: Any, b: float = 4.0) -> Any:
    """Smooth rectifier of a square root: `(x + sqrt(x^2 + b)) / 2`."""
    return (x + tf.sqrt(tf.square(x) + b)) * 0.5


def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """`x` above the threshold, else `default_value`."""
    return tf.where(tf.greater(x, threshold), x, tf.ones_like(x) * default_value)


def sparse_plus(x: Any) -> Any:
    """0 up to -1, `x` from 1 on, and a parabola between."""
    return tf.square(tf.nn.relu(x + 1.0)) / 4.0 - tf.square(tf.nn.relu(x - 1.0)) / 4.0


def sparse_sigmoid(x: Any) -> Any:
    """Sigmoid of straight lines from -1 to 1."""
    return tf.clip_by_value(0.5 * (x + 1.0), 0.0, 1.0)


def glu(x: Any, axis: int = -1) -> Any:
    """The first half of an axis times the sigmoid of the second."""
    first, second = tf.split(x, 2, axis=axis)
    return first * tf.sigmoid(second)


def exponential(x: Any) -> Any:
    """Exponential."""
    return tf.exp(x)


def sparsemax(x: Any, axis: int = -1) -> Any:
    """Projection onto distributions, which makes small ones 0 (Martins and Astudillo 2016)."""
    ordered = -tf.sort(-x, axis=axis)
    total = tf.cumsum(ordered, axis=axis)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    count = tf.reshape(tf.range(1, x.shape[axis] + 1, dtype=x.dtype), shape)
    inside = tf.cast(1.0 + count * ordered > total, x.dtype)
    number = tf.reduce_sum(inside, axis=axis, keepdims=True)
    bound = (tf.reduce_sum(ordered * inside, axis=axis, keepdims=True) - 1.0) / number
    return tf.maximum(x - bound, 0.0)


_BY_NAME: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        celu, elu, exponential, gelu, glu, hard_shrink, hard_sigmoid, hard_silu, hard_tanh,
        leaky_relu, linear, log_sigmoid, log_softmax, mish, relu, relu6, selu, sigmoid, silu,
        soft_shrink, softmax, softplus, softsign, sparse_plus,
        sparse_sigmoid, sparsemax, squareplus, tanh, tanh_shrink, threshold,
    )
} | {"swish": silu, "hard_swish": hard_silu}  # fmt: skip
swish, hard_swish = silu, hard_silu


def get(identifier: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """Returns an activation by name; a function is returned as it is, `None` is `linear`."""
    found = linear if identifier is None else identifier
    return _registry.find("activation function", _BY_NAME, found)  # type: ignore[no-any-return]


def serialize(activation: Callable[..., Any]) -> Any:
    """Returns the name of an activation, or one of the program's as plain data."""
    return serialization.serialize_keras_object(activation)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Returns the activation of a name or of what `serialize` returned."""
    return _registry.deserialize(get, config, custom_objects)
