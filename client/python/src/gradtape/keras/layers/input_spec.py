"""What a layer demands of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradtape as tf


class InputSpec:
    """Dtype, shape and number of axes that an input must have.

    Args:
        dtype: Its dtype.
        shape: Its shape; None stands for any extent.
        ndim: How many axes it has.
        max_ndim: How many it has at most.
        min_ndim: How many it has at least.
        axes: Extents by axis.
        allow_last_axis_squeeze: Whether a last axis of extent 1 may be there or not.
        name: By which name it is given, if inputs are a dictionary.
        optional: Whether it may be None.
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        self.dtype = None if dtype is None else tf.as_dtype(dtype).name
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): extent for axis, extent in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.name, self.optional = name, optional

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such a specification."""
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        return {name: getattr(self, name) for name in names} | {"optional": self.optional}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> InputSpec:
        """Makes a specification of what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        given = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name)]
        return f"InputSpec({', '.join(given)})"

    def check(self, x: Any, layer: str) -> None:
        """Raises if an input is not as it must be.

        Args:
            x: The input.
            layer: Name of the layer, for the message.
        """
        if x is None and self.optional:
            return
        shape = tuple(x.shape)
        start = f'Input with name "{self.name}" of layer' if self.name else "Input 0 of layer"
        start = f'{start} "{layer}" is incompatible with the layer: '
        expected: list[tuple[bool, str]] = [
            (self.ndim is None or len(shape) == self.ndim or self._squeezed(shape) is not None,
             f"expected ndim={self.ndim}, found ndim={len(shape)}"),
            (self.max_ndim is None or len(shape) <= self.max_ndim,
             f"expected max_ndim={self.max_ndim}, found ndim={len(shape)}"),
            (self.min_ndim is None or len(shape) >= self.min_ndim,
             f"expected min_ndim={self.min_ndim}, found ndim={len(shape)}"),
            (self.dtype is None or x.dtype.name == self.dtype,
             f"expected dtype={self.dtype}, found dtype={x.dtype.name}"),
        ]  # fmt: skip
        fitted = self._squeezed(shape) or shape
        if len(fitted) == self.ndim and self.shape is not None:
            fits = all(w is None or w == e for w, e in zip(self.shape, fitted, strict=True))
            expected.append((fits, f"expected shape={self.shape}, found shape={shape}"))
        for axis, extent in self.axes.items():
            fits = extent is None or (-len(shape) <= axis < len(shape) and shape[axis] == extent)
            expected.append((fits, f"expected axis {axis} to have extent {extent}"))
        for holds, message in expected:
            if not holds:
                raise ValueError(f"{start}{message}. Full shape received: {shape}")

    def _squeezed(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns the shape with or without a last axis of extent 1, if that makes it fit."""
        if not self.allow_last_axis_squeeze or self.ndim is None or not shape:
            return None
        if len(shape) == self.ndim + 1 and shape[-1] == 1:
            return shape[:-1]
        if len(shape) == self.ndim - 1 and self.shape is not None and self.shape[-1] == 1:
            return (*shape, 1)
        return None
