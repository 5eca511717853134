"""Resizing by filters, as products with a matrix for each axis (`tf.image.resize`).

A matrix has a row for each new pixel, with the weights of the old ones. It depends on sizes only,
so it is made here, and gradients are those of the products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gradtape import linalg
from gradtape.tensor import Tensor, Value, constant

Kernel = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def _lanczos(radius: float) -> Kernel:
    return lambda x: np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0.0)


def _keys(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    near, far = ((1.5 * x - 2.5) * x) * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _mitchell(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    near = ((7.0 / 6.0 * x - 2.0) * x) * x + 8.0 / 9.0
    far = ((-7.0 / 18.0 * x + 2.0) * x - 10.0 / 3.0) * x + 16.0 / 9.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


# Radius, and weight at a distance.
_KERNELS: dict[str, tuple[float, Kernel]] = {
    "bilinear": (1.0, lambda x: np.maximum(1.0 - x, 0.0)),
    "bicubic": (2.0, _keys),
    "gaussian": (1.5, lambda x: np.where(x < 1.5, np.exp(-2.0 * x * x), 0.0)),
    "lanczos3": (3.0, _lanczos(3.0)),
    "lanczos5": (5.0, _lanczos(5.0)),
    "mitchellcubic": (2.0, _mitchell),
}


def resize(images: Value, height: int, width: int, method: str, antialias: bool) -> Tensor:
    """Resizes a batch of images of floating-point numbers."""
    rows = constant(_matrix(images.shape[1], height, method, antialias), images.dtype)
    columns = constant(_matrix(images.shape[2], width, method, antialias), images.dtype)
    return linalg.einsum("ih,bhwc,jw->bijc", rows, images, columns)


def _matrix(old: int, new: int, method: str, antialias: bool) -> npt.NDArray[Any]:
    if method == "area":
        return _overlaps(old, new)
    if method not in _KERNELS:
        raise ValueError("Resize method is not implemented: " + str(method))
    radius, kernel = _KERNELS[method]
    scale = old / new
    # What is reduced is smoothed by a kernel that is wider by as much.
    wide = max(scale, 1.0) if antialias else 1.0
    centre = (np.arange(new)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centre) / wide
    weights = np.where(distance <= radius, kernel(distance), 0.0)
    return weights / weights.sum(1, keepdims=True)  # type: ignore[no-any-return]


def _overlaps(old: int, new: int) -> npt.NDArray[Any]:
    """The share of each old pixel in the area of each new one."""
    scale = old / new
    first, last = np.arange(new)[:, None] * scale, (np.arange(new)[:, None] + 1) * scale
    pixels = np.arange(old)
    shared = np.minimum(last, pixels + 1) - np.maximum(first, pixels)
    return np.maximum(shared, 0.0) / scale  # type: ignore[no-any-return]
