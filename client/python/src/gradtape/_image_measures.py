"""Differences within and between images (`tf.image.ssim`)."""

from __future__ import annotations

import math as _math
from typing import Any

import numpy as np

from gradtape import _ops, array_ops, dtypes, nn
from gradtape.image import _float, _value, convert_image_dtype
from gradtape.tensor import Tensor, Value, cast


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
    _, similarity = _similarity(x, y, max_val, filter_size, filter_sigma, k1, k2)
    indices = _ops.reduce_mean(similarity, axis=(-1,))
    return indices if return_index_map else _ops.reduce_mean(indices, axis=(-2, -1))


def ssim_multiscale(
    img1: Any,
    img2: Any,
    max_val: Any,
    power_factors: Any = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    """Structural similarity at several scales (Wang et al. 2003), each half of the one before."""
    x, y = convert_image_dtype(img1, dtypes.float32), convert_image_dtype(img2, dtypes.float32)
    means = []
    for scale in range(len(power_factors)):
        if scale:
            x, y = _halved(x), _halved(y)
        maps = _similarity(x, y, max_val, filter_size, filter_sigma, k1, k2)
        # Of all scales but the last, only contrast and structure count.
        chosen = maps[scale == len(power_factors) - 1]
        means.append(_ops.relu(_ops.reduce_mean(chosen, axis=(-3, -2))))
    powers = _ops.pow(_ops.stack(means, axis=-1), cast(list(power_factors), dtypes.float32))
    return _ops.reduce_mean(_ops.reduce_prod(powers, axis=(-1,)), axis=(-1,))


def _halved(images: Value) -> Value:
    """Means of blocks of four pixels; the last row and column of odd extents are doubled."""
    flat = array_ops.reshape(images, (-1, *images.shape[-3:]))
    height, width = flat.shape[1:3]
    if height % 2 or width % 2:
        paddings = (0, 0, 0, height % 2, 0, width % 2, 0, 0)
        flat = _ops.mirror_pad(flat, paddings=paddings, mode="SYMMETRIC")
    flat = nn.avg_pool2d(flat, 2, 2, "VALID")
    return array_ops.reshape(flat, (*images.shape[:-3], *flat.shape[1:]))


def _similarity(
    x: Value, y: Value, max_val: Any, size: int, sigma: float, k1: float, k2: float
) -> tuple[Tensor, Tensor]:
    """Maps of contrast and structure, and of these times luminance."""
    channels = x.shape[-1]
    places = np.arange(size) - (size - 1) / 2
    window = np.exp(-0.5 * (places / sigma) ** 2)
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
    return contrast, luminance * contrast
