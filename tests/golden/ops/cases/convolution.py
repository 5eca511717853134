"""Convolutions and pools over one to three axes."""

import numpy as np
import tensorflow as tf
from make import array, case, uniform


def swapped(function, *inputs, **attributes):
    """TensorFlow's CPU kernels take channels in the last place only: an oracle for the second place."""
    moved = [tf.transpose(x, [0, *range(2, x.ndim), 1]) for x in inputs[:1]]
    y = function(*moved, *inputs[1:], **attributes)
    return tf.transpose(y, [0, y.ndim - 1, *range(1, y.ndim - 1)])


FIRST = {"data_format": "channels_first"}


def depthwise(x, filter):
    """Our filter has the shape of a grouped convolution's."""
    height, width, _, outputs = filter.shape
    return tf.nn.depthwise_conv2d(x, tf.reshape(filter, [height, width, 2, outputs // 2]), [1, 2, 2, 1], "SAME")


def input_gradient(filter, y):
    return tf.raw_ops.Conv2DBackpropInput(input_sizes=[2, 5, 4, 3], filter=filter, out_backprop=y, strides=[1, 2, 1, 1], padding="SAME")


def filter_gradient(x, y):
    return tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=[3, 2, 3, 2], out_backprop=y, strides=[1, 2, 1, 1], padding="SAME")


def scatter(x, values):
    """The transpose of a pool at a fixed input, by the gradient of TensorFlow's pool."""
    return tf.raw_ops.MaxPoolGrad(
        orig_input=x, orig_output=tf.nn.max_pool2d(x, 2, 2, "SAME"), grad=values, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME"
    )


def gather(x, values):
    places = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME", include_batch_in_index=True)[1]
    return tf.gather(tf.reshape(values, [-1]), places)


def spread(y):
    return tf.raw_ops.AvgPoolGrad(orig_input_shape=[2, 5, 4, 3], grad=y, ksize=[1, 3, 2, 1], strides=[1, 2, 1, 1], padding="SAME")


POOL = {"ksize": [2, 2], "strides": [2, 2], "padding": "SAME"}
# A window of nothing but minus infinity is left out: TensorFlow gives the lowest finite number.
EDGES = [[[[-np.inf], [np.inf]], [[-7.0], [-np.inf]], [[3.0], [3.0]]]]

CASES = [
    case("convolution", [uniform([2, 6, 3]), uniform([3, 3, 4])], lambda x, f: tf.nn.conv1d(x, f, 1, "VALID")),
    case("convolution", [uniform([2, 6, 3]), uniform([2, 3, 4])], lambda x, f: tf.nn.conv1d(x, f, 3, "SAME"), strides=[3], padding="SAME"),
    case("convolution", [uniform([2, 5, 4, 3]), uniform([3, 2, 3, 2])], lambda x, f: tf.nn.conv2d(x, f, [2, 1], "SAME"), strides=[2, 1], padding="SAME"),
    case("convolution", [uniform([1, 7, 6, 2]), uniform([2, 3, 2, 3])], lambda x, f: tf.nn.conv2d(x, f, 1, "VALID", dilations=[3, 2]), dilations=[3, 2]),
    case("convolution", [uniform([1, 7, 6, 2]), uniform([2, 3, 2, 3])], lambda x, f: tf.nn.conv2d(x, f, 1, "SAME", dilations=2), dilations=[2, 2], padding="SAME"),
    case(
        "convolution",
        [uniform([2, 4, 5, 2]), uniform([3, 3, 2, 3])],
        lambda x, f: tf.nn.conv2d(x, f, 2, [[0, 0], [2, 1], [0, 2], [0, 0]]),
        strides=[2, 2],
        padding="EXPLICIT",
        explicit_paddings=[2, 1, 0, 2],
    ),
    case(
        "convolution",
        [uniform([2, 3, 5, 4]), uniform([2, 2, 3, 2])],
        lambda x, f: swapped(tf.nn.conv2d, x, f, strides=2, padding="SAME"),
        strides=[2, 2],
        padding="SAME",
        **FIRST,
    ),
    case("convolution", [uniform([1, 4, 5, 4]), uniform([3, 3, 2, 6])], lambda x, f: tf.nn.conv2d(x, f, 1, "SAME"), padding="SAME"),
    case("convolution", [uniform([2, 5, 4, 2]), uniform([2, 3, 1, 6])], depthwise, strides=[2, 2], padding="SAME"),
    case("convolution", [uniform([1, 3, 4, 5, 2]), uniform([2, 3, 2, 2, 3])], lambda x, f: tf.nn.conv3d(x, f, [1, 1, 2, 2, 1], "SAME"), strides=[1, 2, 2], padding="SAME"),
    case("convolution", [uniform([1, 5, 2], dtype="float64"), uniform([3, 2, 2], dtype="float64")], lambda x, f: tf.nn.conv1d(x, f, 2, "VALID"), strides=[2]),
    # TensorFlow gives the shape of SAME for an empty batch.
    case("convolution", [uniform([0, 5, 2]), uniform([3, 2, 2])], lambda x, f: tf.nn.conv1d(x, f, 1, "VALID")[:, :3]),
    case(
        "convolution_input_gradient",
        [uniform([3, 2, 3, 2]), uniform([2, 3, 4, 2])],
        input_gradient,
        shape=[2, 5, 4, 3],
        strides=[2, 1],
        padding="SAME",
    ),
    case(
        "convolution_input_gradient",
        [uniform([3, 2, 2]), uniform([2, 3, 2])],
        lambda f, y: tf.nn.conv1d_transpose(y, f, [2, 7, 2], 2, "VALID"),
        shape=[2, 7, 2],
        strides=[2],
    ),
    case(
        "convolution_input_gradient",
        [uniform([2, 2, 2, 1, 2]), uniform([1, 2, 2, 2, 2])],
        lambda f, y: tf.nn.conv3d_transpose(y, f, [1, 4, 4, 4, 1], 2, "SAME"),
        shape=[1, 4, 4, 4, 1],
        strides=[2, 2, 2],
        padding="SAME",
    ),
    case(
        "convolution_filter_gradient",
        [uniform([2, 5, 4, 3]), uniform([2, 3, 4, 2])],
        filter_gradient,
        shape=[3, 2, 3, 2],
        strides=[2, 1],
        padding="SAME",
    ),
    case("max_pool", [uniform([2, 5, 3])], lambda x: tf.nn.max_pool1d(x, 3, 2, "VALID"), ksize=[3], strides=[2]),
    case("max_pool", [uniform([2, 5, 4, 3])], lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"), **POOL),
    case("max_pool", [uniform([2, 5, 4, 3])], lambda x: tf.nn.max_pool2d(x, [3, 2], [1, 2], "VALID"), ksize=[3, 2], strides=[1, 2]),
    case(
        "max_pool",
        [uniform([2, 5, 4, 3])],
        lambda x: tf.nn.max_pool2d(x, 3, 2, [[0, 0], [1, 2], [0, 1], [0, 0]]),
        ksize=[3, 3],
        strides=[2, 2],
        padding="EXPLICIT",
        explicit_paddings=[1, 2, 0, 1],
    ),
    case("max_pool", [uniform([2, 3, 5, 4])], lambda x: swapped(tf.nn.max_pool2d, x, ksize=2, strides=2, padding="SAME"), **POOL, **FIRST),
    case("max_pool", [uniform([1, 3, 4, 5, 2])], lambda x: tf.nn.max_pool3d(x, [2, 2, 3], 2, "SAME"), ksize=[2, 2, 3], strides=[2, 2, 2], padding="SAME"),
    case("max_pool", [array([[[[3.0], [3.0]], [[3.0], [1.0]]]])], lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), ksize=[2, 2], strides=[2, 2]),
    case("max_pool", [array(EDGES)], lambda x: tf.nn.max_pool2d(x, [2, 1], 1, "VALID"), ksize=[2, 1], gradients=False),
    case("max_pool_argmax", [uniform([2, 5, 4, 3])], lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "SAME", include_batch_in_index=True)[1], **POOL),
    case("max_pool_scatter", [uniform([2, 5, 4, 3]), uniform([2, 3, 2, 3])], scatter, gradients=False, **POOL),
    case("max_pool_gather", [uniform([2, 5, 4, 3]), uniform([2, 5, 4, 3])], gather, gradients=False, **POOL),
    case("avg_pool", [uniform([2, 5, 3])], lambda x: tf.nn.avg_pool1d(x, 3, 2, "SAME"), ksize=[3], strides=[2], padding="SAME"),
    case("avg_pool", [uniform([2, 5, 4, 3])], lambda x: tf.nn.avg_pool2d(x, [3, 2], [2, 1], "SAME"), ksize=[3, 2], strides=[2, 1], padding="SAME"),
    case("avg_pool", [uniform([2, 5, 4, 3])], lambda x: tf.nn.avg_pool2d(x, 2, 1, "VALID"), ksize=[2, 2]),
    case("avg_pool", [uniform([2, 3, 5, 4])], lambda x: swapped(tf.nn.avg_pool2d, x, ksize=2, strides=2, padding="SAME"), **POOL, **FIRST),
    case("avg_pool", [uniform([1, 3, 4, 5, 2])], lambda x: tf.nn.avg_pool3d(x, [2, 2, 3], 2, "SAME"), ksize=[2, 2, 3], strides=[2, 2, 2], padding="SAME"),
    case("avg_pool_gradient", [uniform([2, 3, 4, 3])], spread, shape=[2, 5, 4, 3], ksize=[3, 2], strides=[2, 1], padding="SAME"),
]
