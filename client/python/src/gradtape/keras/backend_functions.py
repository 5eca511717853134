"""Functions of tensors by the names of `keras.backend`, which older programs call `K`.

Keras deprecates them: `keras.ops` and TensorFlow's own names do the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras import activations, backend, ops, random
from gradtape.keras.ops._lift import lift, value
from gradtape.variable import Variable

# Functions whose names and parameters are those of `keras.ops` or `keras.random`.
abs, all, any, cos, exp, log = ops.abs, ops.all, ops.any, ops.cos, ops.exp, ops.log
mean, prod, sum, std, var = ops.mean, ops.prod, ops.sum, ops.std, ops.var
sign, sin, sqrt, square, tanh = ops.sign, ops.sin, ops.sqrt, ops.square, ops.tanh
zeros_like, ones_like, cast = ops.zeros_like, ops.ones_like, ops.cast
sigmoid, softmax, softplus, softsign = ops.sigmoid, ops.softmax, ops.softplus, ops.softsign
hard_sigmoid, elu, ndim, dtype = ops.hard_sigmoid, ops.elu, ops.ndim, ops.dtype
random_normal, random_uniform = random.normal, random.uniform
truncated_normal = random.truncated_normal


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest along axes."""
    return ops.amax(x, axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest along axes."""
    return ops.amin(x, axis, keepdims)


def argmax(x: Any, axis: int = -1) -> Any:
    """Place of the largest."""
    return ops.argmax(x, axis)


def argmin(x: Any, axis: int = -1) -> Any:
    """Place of the smallest."""
    return ops.argmin(x, axis)


def cumsum(x: Any, axis: int = 0) -> Any:
    """Sums of all up to each element."""
    return ops.cumsum(x, axis)


def cumprod(x: Any, axis: int = 0) -> Any:
    """Products of all up to each element."""
    return ops.cumprod(x, axis)


def maximum(x: Any, y: Any) -> Any:
    """The larger of two."""
    return ops.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of two."""
    return ops.minimum(x, y)


def equal(x: Any, y: Any) -> Any:
    """Whether elements are equal."""
    return ops.equal(x, y)


def not_equal(x: Any, y: Any) -> Any:
    """Whether elements differ."""
    return ops.not_equal(x, y)


def less(x: Any, y: Any) -> Any:
    """Whether the first is less."""
    return ops.less(x, y)


def less_equal(x: Any, y: Any) -> Any:
    """Whether the first is not more."""
    return ops.less_equal(x, y)


def greater(x: Any, y: Any) -> Any:
    """Whether the first is more."""
    return ops.greater(x, y)


def greater_equal(x: Any, y: Any) -> Any:
    """Whether the first is not less."""
    return ops.greater_equal(x, y)


def pow(x: Any, a: Any) -> Any:
    """Power."""
    return ops.power(x, a)


def round(x: Any) -> Any:
    """The nearest integer."""
    return ops.round(x)


def clip(x: Any, min_value: Any, max_value: Any) -> Any:
    """Numbers between bounds."""
    return ops.clip(x, min_value, max_value)


def relu(x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """Rectifier."""
    return activations.relu(x, alpha, max_value, threshold)


def l2_normalize(x: Any, axis: Any = None) -> Any:
    """Vectors along an axis divided by their length."""
    return tf.math.l2_normalize(value(x), axis=axis)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of each probability."""
    return ops.binary_crossentropy(target, output, from_logits)


def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    """Cross-entropy of distributions."""
    return ops.categorical_crossentropy(target, output, from_logits, axis)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = "int32") -> Any:
    """Numbers at equal distances."""
    return ops.arange(start, stop, step, dtype)


def zeros(shape: Any, dtype: Any = None, name: str | None = None) -> Any:
    """A tensor of zeros."""
    return ops.zeros(shape, dtype)


def ones(shape: Any, dtype: Any = None, name: str | None = None) -> Any:
    """A tensor of ones."""
    return ops.ones(shape, dtype)


def eye(size: int, dtype: Any = None, name: str | None = None) -> Any:
    """The identity matrix."""
    return ops.eye(size, dtype=dtype)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Any:
    """A tensor of numbers."""
    return tf.constant(value, dtype or backend.floatx(), shape)


def variable(value: Any, dtype: Any = None, name: str | None = None, constraint: Any = None) -> Any:
    """A variable."""
    return Variable(value, dtype=dtype or backend.floatx(), name=name, constraint=constraint)


def concatenate(tensors: Any, axis: int = -1) -> Any:
    """Tensors one after the other along an axis."""
    return ops.concatenate(tensors, axis)


def stack(x: Any, axis: int = 0) -> Any:
    """Tensors along a new axis."""
    return ops.stack(x, axis)


def expand_dims(x: Any, axis: int = -1) -> Any:
    """A new axis."""
    return ops.expand_dims(x, axis)


def squeeze(x: Any, axis: Any) -> Any:
    """Without an axis of extent 1."""
    return ops.squeeze(x, axis)


def reshape(x: Any, shape: Any) -> Any:
    """The same numbers in another shape."""
    return ops.reshape(x, shape)


def flatten(x: Any) -> Any:
    """The numbers one after the other."""
    return ops.ravel(x)


def batch_flatten(x: Any) -> Any:
    """The numbers of each example one after the other."""
    return ops.reshape(x, (-1, int(np.prod(value(x).shape[1:]))))


def permute_dimensions(x: Any, pattern: Any) -> Any:
    """Axes in another order."""
    return ops.transpose(x, pattern)


def transpose(x: Any) -> Any:
    """Axes backwards."""
    return ops.transpose(x)


def reverse(x: Any, axes: Any) -> Any:
    """Backwards along axes."""
    return ops.flip(x, axes)


def tile(x: Any, n: Any) -> Any:
    """All of it several times along axes."""
    return ops.tile(x, n)


def repeat(x: Any, n: int) -> Any:
    """Each row of a matrix so many times along a new second axis."""
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


def repeat_elements(x: Any, rep: int, axis: int) -> Any:
    """Each part of an axis several times."""
    return ops.repeat(x, rep, axis)


def gather(reference: Any, indices: Any) -> Any:
    """The rows that have these numbers."""
    return ops.take(reference, indices, axis=0)


def one_hot(indices: Any, num_classes: int) -> Any:
    """Ones at the numbers of classes, zeros elsewhere."""
    return ops.one_hot(indices, num_classes)


def dot(x: Any, y: Any) -> Any:
    """Sum of products along the last axis of one and the last but one of the other."""
    return ops.dot(x, y)


def dropout(x: Any, level: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """A share set to zero and the rest scaled up."""
    return random.dropout(x, level, noise_shape, seed)


def stop_gradient(variables: Any) -> Any:
    """The same numbers, which nothing is differentiated through."""
    return tf.nest.map_structure(ops.stop_gradient, variables)


def shape(x: Any) -> Any:
    """The shape, as a tensor."""
    return tf.shape(value(x))


def int_shape(x: Any) -> Any:
    """The shape, as a tuple."""
    return tuple(x.shape)


def cast_to_floatx(x: Any) -> Any:
    """Numbers as `floatx`: an array of an array, a tensor of a tensor."""
    if isinstance(x, (tf.Tensor, Variable)):
        return tf.cast(x, backend.floatx())
    return np.asarray(x, dtype=backend.floatx())


def count_params(x: Any) -> int:
    """How many numbers a variable has."""
    return int(np.prod(x.shape))


def get_value(x: Any) -> Any:
    """The numbers as a NumPy array. Waits for the server."""
    return np.asarray(x)


def eval(x: Any) -> Any:
    """The numbers as a NumPy array. Waits for the server."""
    return np.asarray(x)


def set_value(x: Any, value: Any) -> None:
    """Assigns numbers to a variable."""
    x.assign(value)


def batch_get_value(tensors: Any) -> list[Any]:
    """The numbers of several tensors as NumPy arrays."""
    return [np.asarray(x) for x in tensors]


def batch_set_value(tuples: Any) -> None:
    """Assigns numbers to several variables: pairs of a variable and an array."""
    for each, number in tuples:
        each.assign(number)


def update(x: Any, new_x: Any) -> Any:
    """Assigns numbers to a variable."""
    return x.assign(new_x)


def update_add(x: Any, increment: Any) -> Any:
    """Adds numbers to a variable."""
    return x.assign_add(increment)


def update_sub(x: Any, decrement: Any) -> Any:
    """Subtracts numbers from a variable."""
    return x.assign_sub(decrement)


def moving_average_update(x: Any, value: Any, momentum: float) -> Any:
    """Moves a variable towards a value."""
    return x.assign(x * momentum + value * (1.0 - momentum))


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Any:
    """One of two tensors for each element, or what one of two functions returns."""
    if callable(then_expression):
        return then_expression() if bool(condition) else else_expression()
    return ops.where(condition, then_expression, else_expression)


_LIFTED = lift(globals(), __name__)
