"""Images."""

import tensorflow as tf
from make import array, case, integers, uniform

INDICES = array([0, 1, 0], "int32")
# Inside the image, flipped, and beyond its edges.
BOXES = array([[0.1, 0.2, 0.85, 0.9], [0.9, 0.8, 0.15, 0.05], [-0.45, 0.3, 0.65, 1.55]])


def resize(size, method):
    return lambda x: tf.image.resize(x, size, method)


def crop(size, **options):
    return lambda image, boxes, indices: tf.image.crop_and_resize(image, boxes, indices, size, **options)


def patches(sizes, strides, rates, padding):
    def oracle(x):
        extents = ([1, *pair, 1] for pair in (sizes, strides, rates))
        return tf.image.extract_patches(x, *extents, padding)

    return oracle


CASES = [
    *(case("resize", [uniform([1, 3, 4, 2])], resize(size, "bilinear"), size=size) for size in ([6, 8], [5, 3], [3, 4], [1, 7])),
    *(
        case("resize", [uniform([1, 4, 5, 2])], resize(size, "bicubic"), size=size, method="bicubic")
        for size in ([8, 10], [3, 7], [4, 5], [9, 1])
    ),
    case(
        "resize_scatter",
        [uniform([1, 6, 5, 2])],
        lambda x: tf.raw_ops.ResizeBilinearGrad(grads=x, original_image=tf.zeros([1, 3, 4, 2]), half_pixel_centers=True),
        size=[3, 4],
        gradients=False,
    ),
    case(
        "resize_scatter",
        [uniform([1, 6, 5, 2])],
        lambda x: tf.raw_ops.ResizeBicubicGrad(grads=x, original_image=tf.zeros([1, 3, 4, 2]), half_pixel_centers=True),
        size=[3, 4],
        method="bicubic",
        gradients=False,
    ),
    *(case("resize_nearest", [uniform([1, 3, 4, 2])], resize(size, "nearest"), size=size) for size in ([6, 8], [5, 3], [2, 7])),
    case("resize_nearest", [integers([2, 2, 3, 1], 0, 9)], resize([4, 4], "nearest"), size=[4, 4]),
    case("crop_and_resize", [uniform([2, 4, 5, 2]), BOXES, INDICES], crop([3, 4]), crop_size=[3, 4]),
    case(
        "crop_and_resize",
        [uniform([2, 4, 5, 2]), BOXES, INDICES],
        crop([1, 3], extrapolation_value=0.5),
        crop_size=[1, 3],
        extrapolation_value=0.5,
    ),
    # TensorFlow sends the gradient of boxes through this method too, as if it were bilinear.
    case(
        "crop_and_resize",
        [uniform([2, 4, 5, 1]), BOXES, INDICES],
        crop([2, 3], method="nearest"),
        crop_size=[2, 3],
        method="nearest",
        gradients=False,
    ),
    case("extract_patches", [uniform([1, 4, 5, 2])], patches([2, 3], [1, 2], [1, 1], "VALID"), sizes=[2, 3], strides=[1, 2]),
    case(
        "extract_patches",
        [uniform([2, 5, 4, 1])],
        patches([3, 2], [2, 1], [1, 2], "SAME"),
        sizes=[3, 2],
        strides=[2, 1],
        rates=[1, 2],
        padding="SAME",
    ),
]
