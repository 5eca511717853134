"""Images: tensors [height, width, channels], or [batch, height, width, channels] (`tf.image`)."""

from __future__ import annotations

import math as _math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradtape import _export, _ops, array_ops, dtypes, nn, random
from gradtape import linalg as _linalg
from gradtape import math as _m
from gradtape.tensor import Tensor, Value, cast, convert_to_tensor


class ResizeMethod:
    """Ways to resize."""

    BILINEAR = "bilinear"
    NEAREST_NEIGHBOR = "nearest"
    BICUBIC = "bicubic"


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
        method: "bilinear", "bicubic" or "nearest". All but the last give float32 for integers.
        preserve_aspect_ratio: Whether to take the largest size that fits into `size` instead.
        antialias: Must be False: downscaling by filters is not there.
        name: Ignored.
    """
    if antialias:
        raise NotImplementedError("antialias=True: downscaling by filters is not supported")
    height, width = _export.integers(size)

    def resized(images: Value) -> Value:
        to = (height, width)
        if preserve_aspect_ratio:
            scale = min(height / images.shape[1], width / images.shape[2])
            to = (round(images.shape[1] * scale), round(images.shape[2] * scale))
        if method in ("nearest", "nearest_neighbor"):
            return _ops.resize_nearest(images, size=to)
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


# === Measures ===


def image_gradients(image: Any) -> tuple[Tensor, Tensor]:
    """Differences to the next row and to the next column; 0 in the last."""
    image = _value(image)
    down, across = image[:, 1:] - image[:, :-1], image[:, :, 1:] - image[:, :, :-1]
    return (
        _ops.pad(down, paddings=(0, 0, 0, 1, 0, 0, 0, 0)),
        _ops.pad(across, paddings=(0, 0, 0, 0, 0, 1, 0, 0)),
    )


def sobel_edges(image: Any) -> Tensor:
    """Sobel's filters: a new last axis has the edges along height and along width."""
    image = _float(image)
    channels = image.shape[3]
    rows = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    kernel = np.stack([rows, rows.T], axis=-1)[:, :, None, :].repeat(channels, axis=2)
    padded = _ops.mirror_pad(image, paddings=(0, 0, 1, 1, 1, 1, 0, 0))
    edges = nn.depthwise_conv2d(padded, cast(kernel, image.dtype), [1, 1, 1, 1], "VALID")
    return array_ops.reshape(edges, (*image.shape, 2))


def total_variation(images: Any, name: str | None = None) -> Tensor:
    """Sum of the absolute differences of neighbouring pixels, of each image."""
    images = _value(images)
    axes = tuple(range(-3, 0))
    down = images[..., 1:, :, :] - images[..., :-1, :, :]
    across = images[..., 1:, :] - images[..., :-1, :]
    return _ops.reduce_sum(_ops.abs(down), axis=axes) + _ops.reduce_sum(_ops.abs(across), axis=axes)


def psnr(a: Any, b: Any, max_val: Any, name: str | None = None) -> Tensor:
    """Ratio of peak to noise in decibels: 20 log10(max_val) - 10 log10(mean squared error)."""
    a, b = convert_image_dtype(a, dtypes.float32), convert_image_dtype(b, dtypes.float32)
    error = _ops.reduce_mean(_ops.square(a - b), axis=(-3, -2, -1))
    return 20.0 / _math.log(10.0) * _math.log(max_val) - 10.0 / _math.log(10.0) * _ops.log(error)


def ssim(
    img1: Any,
    img2: Any,
    max_val: Any,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    return_index_map: bool = False,
) -> Tensor:
    """Structural similarity (Wang et al. 2004) under a Gaussian window, of each pair of images."""
    x, y = convert_image_dtype(img1, dtypes.float32), convert_image_dtype(img2, dtypes.float32)
    channels = x.shape[-1]
    places = np.arange(filter_size) - (filter_size - 1) / 2
    window = np.exp(-0.5 * (places / filter_sigma) ** 2)
    window = np.outer(window, window) / window.sum() ** 2
    kernel = cast(window[:, :, None, None].repeat(channels, axis=2), dtypes.float32)

    def smooth(x: Value) -> Value:
        flat = array_ops.reshape(x, (-1, *x.shape[-3:]))
        flat = nn.depthwise_conv2d(flat, kernel, [1, 1, 1, 1], "VALID")
        return array_ops.reshape(flat, (*x.shape[:-3], *flat.shape[1:]))

    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    mean_x, mean_y = smooth(x), smooth(y)
    product, squares = mean_x * mean_y * 2.0, _ops.square(mean_x) + _ops.square(mean_y)
    luminance = (product + c1) / (squares + c1)
    contrast = (smooth(x * y) * 2.0 - product + c2) / (
        smooth(_ops.square(x) + _ops.square(y)) - squares + c2
    )
    indices = _ops.reduce_mean(luminance * contrast, axis=(-1,))
    return indices if return_index_map else _ops.reduce_mean(indices, axis=(-2, -1))


# === Chance ===


def _between(low: Any, high: Any, seed: int | None) -> Tensor:
    return random.uniform((), low, high, seed=seed)


def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """Adjusts the brightness by a number from [-max_delta, max_delta)."""
    if max_delta < 0:
        raise ValueError("max_delta must be non-negative.")
    return adjust_brightness(image, _between(-max_delta, max_delta, seed))


def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """Adjusts the contrast by a factor from [lower, upper)."""
    _check_range(lower, upper)
    return adjust_contrast(image, _between(lower, upper, seed))


def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """Adjusts the saturation by a factor from [lower, upper)."""
    _check_range(lower, upper)
    return adjust_saturation(image, _between(lower, upper, seed))


def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """Turns the hue by a share from [-max_delta, max_delta)."""
    if not 0 <= max_delta <= 0.5:
        raise ValueError("max_delta must be between 0 and 0.5.")
    return adjust_hue(image, _between(-max_delta, max_delta, seed))


def _check_range(lower: float, upper: float) -> None:
    if not 0 <= lower < upper:
        raise ValueError(f"need 0 <= lower < upper, got {lower} and {upper}")


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """Cuts out a window at a random place, which is fetched."""
    value, size = _value(value), _export.integers(size)
    shares = random.uniform((len(size),), seed=seed).numpy()
    room = np.array(value.shape) - np.array(size) + 1
    if (room < 1).any():
        raise ValueError(f"Need value.shape >= size, got {value.shape} and {size}")
    return _ops.slice(value, begin=tuple(np.floor(shares * room).astype(int).tolist()), size=size)


def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor:
    """Mirrors each image along its width with probability 1 / 2."""
    return _random_flip(image, 2, seed)


def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor:
    """Mirrors each image along its height with probability 1 / 2."""
    return _random_flip(image, 1, seed)


def _random_flip(image: Any, axis: int, seed: int | None) -> Tensor:
    def flipped(images: Value) -> Value:
        coins = random.uniform((images.shape[0], 1, 1, 1), seed=seed) < 0.5
        return _ops.where(coins, _ops.reverse(images, axis=(axis,)), images)

    return _batched(image, flipped)


__all__: Sequence[str] = [
    name
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__ and name[0] != "_"
]
