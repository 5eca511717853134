"""First values of weights, with the formulas and defaults of Keras."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras import _registry, serialization
from gradtape.keras._configured import Configured
from gradtape.keras._registry import snake_case


class Initializer(Configured):
    """Makes a tensor of a given shape."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        raise TypeError(f"{type(self).__name__} does not say how to make values")


class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        return tf.zeros(shape, dtype or tf.float32)


class Ones(Initializer):
    """All ones."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        return tf.ones(shape, dtype or tf.float32)


class Constant(Initializer):
    """All the same number, or the numbers of an array."""

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        values = np.broadcast_to(np.asarray(self.value), tuple(shape))
        return tf.constant(values.astype((dtype or tf.float32).as_numpy_dtype))


class _Random(Initializer):
    """Random numbers; with a seed the same ones at each call, as in Keras."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def _uniform(self, shape: Sequence[int], low: float, high: float, dtype: Any) -> Any:
        dtype = dtype or tf.float32
        if self.seed is None:
            return tf.random.uniform(shape, low, high, dtype)
        return tf.random.stateless_uniform(shape, (self.seed, 0), low, high, dtype)

    def _normal(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> Any:
        dtype = dtype or tf.float32
        if self.seed is None:
            return tf.random.normal(shape, mean, stddev, dtype)
        return tf.random.stateless_normal(shape, (self.seed, 0), mean, stddev, dtype)

    def _truncated(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> Any:
        # Numbers beyond two standard deviations are drawn again, as the distribution is defined.
        # Only their values tell which, so this happens here; they are still the server's numbers
        # and follow its seeds.
        count = math.prod(shape)
        kept = np.empty(0, np.float32)
        for i in itertools.count():
            drawn = (count + count // 8 + 16,)
            if self.seed is None:
                numbers = tf.random.normal(drawn).numpy()
            else:
                numbers = tf.random.stateless_normal(drawn, (self.seed, i)).numpy()
            kept = np.concatenate([kept, numbers[np.abs(numbers) <= 2.0]])
            if len(kept) >= count:
                break
        values = kept[:count].reshape(tuple(shape))
        return tf.cast(tf.constant(values) * stddev + mean, dtype or tf.float32)


class Identity(Initializer):
    """The identity matrix times `gain`."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        if len(shape) != 2:
            raise ValueError(
                f"Identity matrix initializer can only be used for 2D matrices. Received: {shape=}"
            )
        return self.gain * tf.eye(shape[0], shape[1], dtype=dtype or tf.float32)


IdentityInitializer = Identity


class OrthogonalInitializer(_Random):
    """An orthogonal matrix times `gain`; of more axes, the last one against all others.

    Args:
        gain: Factor of the matrix.
        seed: Seed, for the same matrix at each call.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        if len(shape) < 2:
            raise ValueError(f"The tensor to initialize must be at least 2D, got {shape=}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = self._normal((max(rows, columns), min(rows, columns)), 0.0, 1.0, tf.float32)
        q, r = tf.linalg.qr(tall)
        # Uniform among all orthogonal matrices (Mezzadri 2006).
        q = q * tf.sign(tf.linalg.diag_part(r))
        q = (q if rows >= columns else tf.transpose(q)) * self.gain
        return tf.cast(tf.reshape(q, shape), dtype or tf.float32)


Orthogonal = OrthogonalInitializer


class RandomUniform(_Random):
    """Uniform numbers."""

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        return self._uniform(shape, self.minval, self.maxval, dtype)


class RandomNormal(_Random):
    """Normal numbers."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        return self._normal(shape, self.mean, self.stddev, dtype)


class TruncatedNormal(_Random):
    """Normal numbers within two standard deviations of the mean."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        return self._truncated(shape, self.mean, self.stddev, dtype)


# Standard deviation of a standard normal distribution cut at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


class VarianceScaling(_Random):
    """Random numbers whose variance fits the number of inputs and outputs of a layer.

    Args:
        scale: Factor of the variance.
        mode: "fan_in", "fan_out" or "fan_avg": what the variance is divided by.
        distribution: "truncated_normal", "untruncated_normal" or "uniform".
        seed: Seed, for the same numbers at each call.
        input_axes: The axes of the inputs, if a kernel's are others than usual.
        output_axes: The axes of the outputs, which are given with those of the inputs.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes: Any = None,
        output_axes: Any = None,
    ) -> None:
        super().__init__(seed)
        if scale <= 0.0:
            raise ValueError(f"Argument `scale` must be positive float. Received: scale={scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"Invalid `mode` argument: {mode!r}")
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(f"Invalid `distribution` argument: {distribution!r}")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns the tensor."""
        fan_in, fan_out = _fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return self._uniform(shape, -limit, limit, dtype)
        if self.distribution == "untruncated_normal":
            return self._normal(shape, 0.0, math.sqrt(variance), dtype)
        return self._truncated(shape, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, dtype)


class GlorotUniform(VarianceScaling):
    """Glorot and Bengio 2010, uniform; the default for kernels."""

    def __init__(
        self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None
    ) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed, input_axes, output_axes)


class HeUniform(VarianceScaling):
    """He et al. 2015, uniform."""

    def __init__(
        self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None
    ) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed, input_axes, output_axes)


class LecunUniform(VarianceScaling):
    """LeCun et al. 1998, uniform."""

    def __init__(
        self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None
    ) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed, input_axes, output_axes)


class GlorotNormal(VarianceScaling):
    """Glorot and Bengio 2010, truncated normal."""

    def __init__(
        self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None
    ) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, input_axes, output_axes)


class HeNormal(VarianceScaling):
    """He et al. 2015, truncated normal."""

    def __init__(
        self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None
    ) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed, input_axes, output_axes)


class LecunNormal(VarianceScaling):
    """LeCun et al. 1998, truncated normal."""

    def __init__(
        self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None
    ) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed, input_axes, output_axes)


def _fans(shape: Sequence[int], inputs: Any, outputs: Any) -> tuple[float, float]:
    if inputs is not None and outputs is not None:
        first, last = (math.prod(shape[axis] for axis in axes) for axes in (inputs, outputs))
        return float(first), float(last)
    if not shape:
        return 1.0, 1.0
    if len(shape) == 1:
        return float(shape[0]), float(shape[0])
    receptive = math.prod(shape[:-2])
    return float(shape[-2] * receptive), float(shape[-1] * receptive)


# Keras' other names for the classes.
zeros = Zeros
ones = Ones
constant = Constant
identity = Identity
orthogonal = OrthogonalInitializer
random_uniform = RandomUniform
random_normal = RandomNormal
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
glorot_uniform = GlorotUniform
glorot_normal = GlorotNormal
he_uniform = HeUniform
he_normal = HeNormal
lecun_uniform = LecunUniform
lecun_normal = LecunNormal

_BY_NAME: dict[str, Any] = {
    snake_case(kind.__name__): kind
    for kind in (
        Zeros, Ones, Constant, Identity, OrthogonalInitializer, RandomUniform, RandomNormal,
        TruncatedNormal, VarianceScaling, GlorotUniform, GlorotNormal, HeUniform, HeNormal,
        LecunUniform, LecunNormal,
    )
} | {"orthogonal": Orthogonal, "uniform": RandomUniform, "normal": RandomNormal}  # fmt: skip


def get(identifier: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """Returns an initializer by name; one or a function is returned as it is, `None` is zeros."""
    return _registry.find(  # type: ignore[no-any-return]
        "initializer", _BY_NAME, Zeros if identifier is None else identifier
    )


def serialize(initializer: Initializer) -> Any:
    """Returns an initializer as plain data."""
    return serialization.serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Returns the initializer of a name or of what `serialize` returned."""
    return _registry.deserialize(get, config, custom_objects)
