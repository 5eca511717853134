"""Normalisation."""

import tensorflow as tf
from make import array, case, gradient_of, uniform


def channels_first(function, x, *parameters, **options):
    perm = [0, *range(2, x.ndim), 1]
    y, *moments = function(tf.transpose(x, perm), *parameters, **options)
    return tf.transpose(y, [0, y.ndim - 1, *range(1, y.ndim - 1)]), *moments


def fused(x, scale, offset, epsilon=1e-3):
    """TensorFlow's kernel has a gradient for its first output only."""
    return tf.compat.v1.nn.fused_batch_norm(x, scale, offset, epsilon=epsilon)


def unfused(x, scale, offset):
    """The same by formulas, which have gradients for all three."""
    axes = list(range(x.ndim - 1))
    mean, variance = tf.nn.moments(x, axes)
    count = tf.size(x) / x.shape[-1]
    unbiased = variance * tf.cast(count / (count - 1), x.dtype)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-3), mean, unbiased


def single(x, scale, offset):
    """One example, whose unbiased variance would be a division by zero."""
    y, *moments = fused(x[None, None], scale, offset)
    return y[0, 0], *moments


def layer(x, scale, offset, axes, epsilon):
    """With parameters that broadcast."""
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, epsilon)


def layer_gradients(axes, epsilon, batch_dims=0):
    """Those of x, scale and offset, which all start with the same axes.

    Not by `tf.nn.moments`: that takes the mean within the variance for a constant, so its second derivatives are wrong.
    """

    def formula(x, scale, offset):
        place = [n if i < batch_dims or i in axes else 1 for i, n in enumerate(x.shape)]
        mean, square = (tf.reduce_mean(values, axes, keepdims=True) for values in (x, x * x))
        y = (x - mean) * tf.math.rsqrt(square - mean * mean + epsilon)
        return y * tf.reshape(scale, place) + tf.reshape(offset, place)

    pull = gradient_of(formula, 0, 1, 2)
    return lambda x, scale, flow: pull(x, scale, tf.zeros_like(scale), flow)


def group(x, scale, offset, groups):
    split = tf.reshape(x, [x.shape[0], -1, groups, x.shape[-1] // groups])
    return tf.reshape(layer(split, None, None, [1, 3], 1e-3), x.shape) * scale + offset


def keras_rms(x, scale):
    return x * tf.math.rsqrt(tf.reduce_mean(x**2, -1, keepdims=True) + 1e-6) * scale


PARAMETERS = [uniform([3], 0.5, 1.5), uniform([3])]

CASES = [
    case("moments", [uniform([2, 3, 4])], lambda x: tf.nn.moments(x, [0, 2]), axis=[0, 2]),
    case("moments", [uniform([2, 3])], lambda x: tf.nn.moments(x, [1], keepdims=True), axis=[1], keepdims=True),
    case("moments", [uniform([0, 3])], lambda x: tf.nn.moments(x, [0]), axis=[0], gradients=False),
    case(
        "batch_normalization",
        [uniform([2, 4, 3]), uniform([3]), uniform([3], 0.1, 1.0), uniform([3]), uniform([3])],
        lambda x, mean, variance, offset, scale: tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-3),
    ),
    case("fused_batch_norm", [uniform([2, 3, 4, 3]), *PARAMETERS], fused, gradients=False),
    case("fused_batch_norm", [uniform([2, 3, 4, 3]), *PARAMETERS], unfused),
    case(
        "fused_batch_norm",
        [uniform([2, 3, 2, 4]), *PARAMETERS],
        lambda *inputs: channels_first(unfused, *inputs),
        data_format="channels_first",
    ),
    case("fused_batch_norm", [array([[1.0, 2.0, 3.0]]), *PARAMETERS], single, gradients=False),
    case("layer_normalization", [uniform([2, 4, 3]), *PARAMETERS], lambda x, s, o: layer(x, s, o, [-1], 1e-3)),
    case(
        "layer_normalization",
        [uniform([2, 4, 3]), uniform([4, 3], 0.5, 1.5), uniform([4, 3])],
        lambda x, s, o: layer(x, s, o, [1, 2], 1e-5),
        axis=[-2, -1],
        epsilon=1e-5,
    ),
    case("layer_normalization", [array([[5.0, 5.0, 5.0]]), *PARAMETERS], lambda x, s, o: layer(x, s, o, [-1], 1e-3)),
    case(
        "group_normalization",
        [uniform([2, 3, 2, 4]), uniform([4], 0.5, 1.5), uniform([4])],
        lambda x, s, o: group(x, s, o, 2),
        groups=2,
    ),
    case(
        "group_normalization",
        [uniform([2, 3, 4]), uniform([3], 0.5, 1.5), uniform([3])],
        lambda x, s, o: tf.transpose(group(tf.transpose(x, [0, 2, 1]), s, o, 3), [0, 2, 1]),
        groups=-1,
        data_format="channels_first",
    ),
    case("rms_normalization", [uniform([2, 4]), uniform([4], 0.5, 1.5)], keras_rms, epsilon=1e-6),
    case("local_response_normalization", [uniform([1, 2, 2, 7])], tf.nn.local_response_normalization),
    case(
        "local_response_normalization",
        [uniform([1, 2, 2, 5])],
        lambda x: tf.nn.local_response_normalization(x, 1, 2.0, 0.5, 0.75),
        depth_radius=1,
        bias=2.0,
        alpha=0.5,
        beta=0.75,
    ),
    case("layer_normalization_gradient", [uniform([3, 4]), uniform([4], 0.5, 1.5), uniform([3, 4])], layer_gradients([1], 1e-3)),
    case("layer_normalization_gradient", [uniform([3, 40]), uniform([40], 0.5, 1.5), uniform([3, 40])], layer_gradients([1], 1e-3)),
    case(
        "layer_normalization_gradient",
        [uniform([2, 3, 4, 2]), uniform([2, 3, 2], 0.5, 1.5), uniform([2, 3, 4, 2])],
        layer_gradients([1, 3], 1e-5, 1),
        axis=[1, 3],
        epsilon=1e-5,
        batch_dims=1,
    ),
]
