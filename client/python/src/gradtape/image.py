"""Images: tensors [height, width, channels], or [batch, height, width, channels] (`tf.image`)."""

from __future__ import annotations

import math as _math
from collections.abc import Callable
from typing import Any

from gradtape import _export, _image_filters, _ops, array_ops, dtypes
from gradtape import linalg as _linalg
from gradtape import math as _m
from gradtape._image_boxes import (
    combined_non_max_suppression,
    draw_bounding_boxes,
    non_max_suppression,
    non_max_suppression_overlaps,
    non_max_suppression_padded,
    non_max_suppression_with_scores,
)
from gradtape.tensor import Tensor, Value, cast, convert_to_tensor


class ResizeMethod:
    """Ways to resize."""

    BILINEAR = "bilinear"
    NEAREST_NEIGHBOR = "nearest"
    BICUBIC = "bicubic"
    AREA = "area"
    LANCZOS3 = "lanczos3"
    LANCZOS5 = "lanczos5"
    GAUSSIAN = "gaussian"
    MITCHELLCUBIC = "mitchellcubic"


# From the rows red, green, blue to the columns of each space, and back.
_RGB_TO_YIQ = (
    (0.299, 0.59590059, 0.2115),
    (0.587, -0.27455667, -0.52273617),
    (0.114, -0.32134392, 0.31119955),
)
_YIQ_TO_RGB = (
    (1.0, 1.0, 1.0),
    (0.95598634, -0.27201283, -1.10674021),
    (0.6208248, -0.64720424, 1.70423049),
)
_RGB_TO_YUV = (
    (0.299, -0.14714119, 0.61497538),
    (0.587, -0.28886916, -0.51496512),
    (0.114, 0.43601035, -0.10001026),
)
_YUV_TO_RGB = (
    (1.0, 1.0, 1.0),
    (0.0, -0.394642334, 2.03206185),
    (1.13988303, -0.58062185, 0.0),
)
# The weights of CCIR 601's luma.
_LUMA = (0.2989, 0.5870, 0.1140)


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else convert_to_tensor(x)


def _float(x: Any) -> Value:
    x = _value(x)
    return x if x.dtype.is_floating else cast(x, dtypes.float32)


def _batched(image: Any, change: Callable[[Value], Value]) -> Tensor:
    """Applies a function of a batch to a batch or to one image."""
    image = _value(image)
    if image.ndim == 4:
        return change(image)
    if image.ndim != 3:
        raise ValueError(f"'image' must have 3 or 4 axes, got shape {image.shape}")
    return _ops.squeeze(change(_ops.expand_dims(image, axis=0)), axis=(0,))


def _through_float(image: Any, change: Callable[[Value], Value]) -> Tensor:
    """Applies a function of numbers between 0 and 1, whatever the dtype of the image is."""
    image = _value(image)
    return convert_image_dtype(change(convert_image_dtype(image, dtypes.float32)), image.dtype)


# === Sizes ===


def resize(
    images: Any,
    size: Any,
    method: str = ResizeMethod.BILINEAR,
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
    name: str | None = None,
) -> Tensor:
    """Resizes images, with the centres of pixels at halves.

    Args:
        images: The images.
        size: New height and width.
        method: One of `ResizeMethod`. All but "nearest" give float32 for integers.
        preserve_aspect_ratio: Whether to take the largest size that fits into `size` instead.
        antialias: Whether to smooth what becomes smaller.
        name: Ignored.
    """
    height, width = _export.integers(size)

    def resized(images: Value) -> Value:
        to = (height, width)
        if preserve_aspect_ratio:
            scale = min(height / images.shape[1], width / images.shape[2])
            to = (round(images.shape[1] * scale), round(images.shape[2] * scale))
        if method in ("nearest", "nearest_neighbor"):
            return _ops.resize_nearest(images, size=to)
        if antialias or method not in ("bilinear", "bicubic"):
            return _image_filters.resize(_float(images), *to, method, antialias)
        return _ops.resize(_float(images), size=to, method=method)

    return _batched(images, resized)


def resize_with_pad(
    image: Any,
    target_height: int,
    target_width: int,
    method: str = ResizeMethod.BILINEAR,
    antialias: bool = False,
) -> Tensor:
    """Resizes images to the largest size that fits, and pads them evenly with zeros."""

    def padded(images: Value) -> Value:
        ratio = max(images.shape[2] / target_width, images.shape[1] / target_height)
        height = _math.floor(images.shape[1] / ratio)
        width = _math.floor(images.shape[2] / ratio)
        images = resize(images, (height, width), method, antialias=antialias)
        top = max((target_height - height) // 2, 0)
        left = max((target_width - width) // 2, 0)
        return pad_to_bounding_box(images, top, left, target_height, target_width)

    return _batched(image, padded)


def resize_with_crop_or_pad(image: Any, target_height: int, target_width: int) -> Tensor:
    """Crops images centrally, or pads them evenly with zeros, to a size."""

    def changed(images: Value) -> Value:
        height, width = images.shape[1:3]
        images = crop_to_bounding_box(
            images,
            max((height - target_height) // 2, 0),
            max((width - target_width) // 2, 0),
            min(target_height, height),
            min(target_width, width),
        )
        return pad_to_bounding_box(
            images,
            max((target_height - height) // 2, 0),
            max((target_width - width) // 2, 0),
            target_height,
            target_width,
        )

    return _batched(image, changed)


def crop_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Tensor:
    """Cuts a rectangle out of images."""

    def cropped(images: Value) -> Value:
        size = (images.shape[0], target_height, target_width, images.shape[3])
        return _ops.slice(images, begin=(0, offset_height, offset_width, 0), size=size)

    return _batched(image, cropped)


def pad_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Tensor:
    """Puts images into rectangles of zeros."""

    def padded(images: Value) -> Value:
        below = target_height - offset_height - images.shape[1]
        right = target_width - offset_width - images.shape[2]
        paddings = (0, 0, offset_height, below, offset_width, right, 0, 0)
        return _ops.pad(images, paddings=paddings)

    return _batched(image, padded)


def central_crop(image: Any, central_fraction: float) -> Tensor:
    """Cuts the middle out of images: `central_fraction` of each extent."""
    if not 0.0 < central_fraction <= 1.0:
        raise ValueError(f"central_fraction must be in (0, 1], got {central_fraction}")

    def cropped(images: Value) -> Value:
        starts = [int((n - n * central_fraction) / 2) for n in images.shape[1:3]]
        sizes = [n - 2 * start for n, start in zip(images.shape[1:3], starts, strict=True)]
        return crop_to_bounding_box(images, *starts, *sizes)

    return _batched(image, cropped)


def crop_and_resize(
    image: Any,
    boxes: Any,
    box_indices: Any,
    crop_size: Any,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """Cuts boxes [y1, x1, y2, x2], in shares of the extents, out of a batch and resizes them."""
    return _ops.crop_and_resize(
        _float(image),
        boxes,
        _value(box_indices),
        crop_size=_export.integers(crop_size),
        method=method,
        extrapolation_value=extrapolation_value,
    )


def extract_patches(
    images: Any, sizes: Any, strides: Any, rates: Any, padding: str, name: str | None = None
) -> Tensor:
    """Lays the pixels of each patch into the channels; all sizes are [1, height, width, 1]."""
    return _ops.extract_patches(
        images,
        sizes=_export.integers(sizes)[1:3],
        strides=_export.integers(strides)[1:3],
        rates=_export.integers(rates)[1:3],
        padding=padding,
    )


# === Orientation ===


def flip_left_right(image: Any) -> Tensor:
    """Mirrors images along their width."""
    return _batched(image, lambda images: _ops.reverse(images, axis=(2,)))


def flip_up_down(image: Any) -> Tensor:
    """Mirrors images along their height."""
    return _batched(image, lambda images: _ops.reverse(images, axis=(1,)))


def transpose(image: Any, name: str | None = None) -> Tensor:
    """Swaps height and width."""
    return _batched(image, lambda images: _ops.transpose(images, perm=(0, 2, 1, 3)))


def rot90(image: Any, k: int = 1, name: str | None = None) -> Tensor:
    """Turns images by `k` right angles against the clock."""

    def turned(images: Value) -> Value:
        turns = k % 4
        if turns == 2:
            return _ops.reverse(images, axis=(1, 2))
        if turns == 1:
            return transpose(_ops.reverse(images, axis=(2,)))
        return _ops.reverse(transpose(images), axis=(2,)) if turns else _ops.identity(images)

    return _batched(image, turned)


# === Numbers and colours ===


def convert_image_dtype(
    image: Any, dtype: Any, saturate: bool = False, name: str | None = None
) -> Tensor:
    """Converts images; integers stand for the numbers between 0 and 1 in steps of their range."""
    image, dtype = _value(image), dtypes.as_dtype(dtype)
    if image.dtype == dtype:
        return _ops.identity(image)
    if image.dtype.is_floating and dtype.is_floating:
        return cast(image, dtype)
    if dtype.is_floating:
        return cast(image, dtype) * (1.0 / image.dtype.max)
    if image.dtype.is_floating:
        scaled = image * (dtype.max + 0.5)
        return array_ops.saturate_cast(scaled, dtype) if saturate else cast(scaled, dtype)
    if image.dtype.size > dtype.size:
        scaled = image // (image.dtype.max // (dtype.max + 1))
        return array_ops.saturate_cast(scaled, dtype) if saturate else cast(scaled, dtype)
    return cast(image, dtype) * ((dtype.max + 1) // (image.dtype.max + 1))


def adjust_brightness(image: Any, delta: Any) -> Tensor:
    """Adds `delta`, in shares of the dtype's range."""
    return _through_float(image, lambda x: x + delta)


def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor:
    """Moves each channel away from its mean: (x - mean) * contrast_factor + mean."""

    def changed(x: Value) -> Value:
        mean = _ops.reduce_mean(x, axis=(-3, -2), keepdims=True)
        return (x - mean) * contrast_factor + mean

    return _through_float(images, changed)


def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1) -> Tensor:
    """Computes gain * x ** gamma."""
    if isinstance(gamma, (int, float)) and gamma < 0:
        raise ValueError("Gamma should be a non-negative real number")
    return _through_float(image, lambda x: gain * x**gamma)


def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Tensor:
    """Multiplies the saturation of RGB images."""

    def changed(x: Value) -> Value:
        hue, saturation, value = array_ops.unstack(rgb_to_hsv(x), axis=-1)
        saturation = _ops.clip_by_value(
            saturation * saturation_factor, clip_value_min=0.0, clip_value_max=1.0
        )
        return hsv_to_rgb(array_ops.stack([hue, saturation, value], axis=-1))

    return _through_float(image, changed)


def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Tensor:
    """Turns the hue of RGB images by `delta` of a full turn."""

    def changed(x: Value) -> Value:
        hue, saturation, value = array_ops.unstack(rgb_to_hsv(x), axis=-1)
        return hsv_to_rgb(array_ops.stack([_m.floormod(hue + delta, 1.0), saturation, value], -1))

    return _through_float(image, changed)


def per_image_standardization(image: Any) -> Tensor:
    """Gives each image mean 0 and variance 1; a variance of 0 divides by 1 / sqrt(elements)."""
    image = _float(image)
    axes = tuple(range(-3, 0))
    count = _math.prod(image.shape[-3:])
    mean = _ops.reduce_mean(image, axis=axes, keepdims=True)
    deviation = _ops.sqrt(_ops.reduce_mean(_ops.square(image - mean), axis=axes, keepdims=True))
    return (image - mean) / _ops.maximum(deviation, count**-0.5)


def rgb_to_grayscale(images: Any, name: str | None = None) -> Tensor:
    """Weighs the three channels into one."""

    def gray(x: Value) -> Value:
        weights = array_ops.reshape(cast(_LUMA, x.dtype), (3, 1))
        return _linalg.tensordot(x, weights, 1)

    return _through_float(images, gray)


def grayscale_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """Repeats the channel three times."""
    images = _value(images)
    return _ops.tile(images, multiples=(*(1,) * (images.ndim - 1), 3))


def _mix(images: Any, kernel: tuple[tuple[float, ...], ...]) -> Tensor:
    images = _float(images)
    return _linalg.tensordot(images, cast(kernel, images.dtype), 1)


def rgb_to_yiq(images: Any) -> Tensor:
    """Converts RGB to YIQ."""
    return _mix(images, _RGB_TO_YIQ)


def yiq_to_rgb(images: Any) -> Tensor:
    """Converts YIQ to RGB."""
    return _mix(images, _YIQ_TO_RGB)


def rgb_to_yuv(images: Any) -> Tensor:
    """Converts RGB to YUV."""
    return _mix(images, _RGB_TO_YUV)


def yuv_to_rgb(images: Any) -> Tensor:
    """Converts YUV to RGB."""
    return _mix(images, _YUV_TO_RGB)


def rgb_to_hsv(images: Any, name: str | None = None) -> Tensor:
    """Converts RGB to hue, saturation and value, all between 0 and 1."""
    images = _float(images)
    red, green, blue = array_ops.unstack(images, axis=-1)
    value = _ops.reduce_max(images, axis=(-1,))
    spread = value - _ops.reduce_min(images, axis=(-1,))
    saturation = _ops.divide_no_nan(spread, value)
    sixth = _ops.divide_no_nan(_ops.ones_like(spread), 6.0 * spread)
    hue = _ops.where(
        _ops.equal(red, value),
        sixth * (green - blue),
        _ops.where(
            _ops.equal(green, value),
            sixth * (blue - red) + 2.0 / 6.0,
            sixth * (red - green) + 4.0 / 6.0,
        ),
    )
    hue = _ops.where(spread > 0.0, hue, _ops.zeros_like(hue))
    hue = _ops.where(hue < 0.0, hue + 1.0, hue)
    return array_ops.stack([hue, saturation, value], axis=-1)


def hsv_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """Converts hue, saturation and value to RGB."""
    hue, saturation, value = array_ops.unstack(_float(images), axis=-1)
    sector = hue * 6.0

    def clipped(x: Value) -> Value:
        return _ops.clip_by_value(x, clip_value_min=0.0, clip_value_max=1.0)

    channels = (
        clipped(_ops.abs(sector - 3.0) - 1.0),
        clipped(2.0 - _ops.abs(sector - 2.0)),
        clipped(2.0 - _ops.abs(sector - 4.0)),
    )
    mixed = [((channel - 1.0) * saturation + 1.0) * value for channel in channels]
    return array_ops.stack(mixed, axis=-1)


# They are made of what is above.
from gradtape._image_chance import (  # noqa: E402
    random_brightness,
    random_contrast,
    random_crop,
    random_flip_left_right,
    random_flip_up_down,
    random_hue,
    random_saturation,
    stateless_random_brightness,
    stateless_random_contrast,
    stateless_random_crop,
    stateless_random_flip_left_right,
    stateless_random_flip_up_down,
    stateless_random_hue,
    stateless_random_saturation,
)
from gradtape._image_measures import (  # noqa: E402
    image_gradients,
    psnr,
    sobel_edges,
    ssim,
    ssim_multiscale,
    total_variation,
)

__all__ = [
    "ResizeMethod", "adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue",
    "adjust_saturation", "central_crop", "combined_non_max_suppression", "convert_image_dtype",
    "crop_and_resize", "crop_to_bounding_box", "draw_bounding_boxes", "extract_patches",
    "flip_left_right", "flip_up_down", "grayscale_to_rgb", "hsv_to_rgb", "image_gradients",
    "non_max_suppression", "non_max_suppression_overlaps", "non_max_suppression_padded",
    "non_max_suppression_with_scores", "pad_to_bounding_box", "per_image_standardization",
    "psnr", "random_brightness", "random_contrast", "random_crop", "random_flip_left_right",
    "random_flip_up_down", "random_hue", "random_saturation", "resize",
    "resize_with_crop_or_pad", "resize_with_pad", "rgb_to_grayscale", "rgb_to_hsv",
    "rgb_to_yiq", "rgb_to_yuv", "rot90", "sobel_edges", "ssim", "ssim_multiscale",
    "stateless_random_brightness", "stateless_random_contrast", "stateless_random_crop",
    "stateless_random_flip_left_right", "stateless_random_flip_up_down", "stateless_random_hue",
    "stateless_random_saturation", "total_variation", "transpose", "yiq_to_rgb", "yuv_to_rgb",
]  # fmt: skip
