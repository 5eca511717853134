"""Layers around other layers."""

from __future__ import annotations

from typing import Any

import gradtape as tf
from gradtape.keras.layers.base import Layer


class Wrapper(Layer):
    """The base of layers around another one.

    Args:
        layer: The other one.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise TypeError(f"Layer {layer} supplied to Wrapper isn't a supported layer type.")
        self.layer = layer

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return self.layer(inputs)


class SpectralNormalization(Wrapper):
    """Divides a layer's kernel by its largest singular value while training (Miyato et al. 2018).

    Args:
        layer: The layer, which has a `kernel` or `embeddings`.
        power_iterations: How many steps improve the estimate each time.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, layer: Any, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        if power_iterations <= 0:
            raise ValueError(
                "`power_iterations` should be greater than zero. Received: "
                f"`power_iterations={power_iterations}`"
            )
        self.power_iterations = power_iterations

    def build(self, input_shape: Any) -> None:
        """Makes the layer's weights, and the vector that is improved."""
        if not self.layer.built:
            with self.scope():
                self.layer._path = f"{self.path}/{self.layer.name}"
                self.layer.build(input_shape)
        # Counts as the wrapper's own, so that the weights come in the order of Keras.
        self.kernel = kernel = self._kernel()
        self.vector_u = self.add_weight(
            (1, kernel.shape[-1]), tf.keras.initializers.TruncatedNormal(stddev=0.02),
            trainable=False, autocast=False, name="vector_u",
        )  # fmt: skip

    def _kernel(self) -> Any:
        for name in ("kernel", "embeddings"):
            if hasattr(self.layer, name):
                return getattr(self.layer, name)
        raise ValueError(f"{type(self.layer).__name__} has no attribute 'kernel' nor 'embeddings'.")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the outputs; while training, the kernel is divided first."""
        if training:
            self._divide(self._kernel())
        return self.layer(inputs)

    def _divide(self, kernel: Any) -> None:
        weights = tf.stop_gradient(tf.reshape(kernel, (-1, kernel.shape[-1])))
        u = self.vector_u.read_value()
        for _ in range(self.power_iterations):
            v = _unit(tf.matmul(u, weights, transpose_b=True))
            u = _unit(tf.matmul(v, weights))
        sigma = tf.reduce_sum(tf.matmul(v, weights) * u)
        # A kernel of zeros stays one.
        divided = tf.math.divide_no_nan(tf.stop_gradient(kernel), sigma)
        self.vector_u.assign(tf.stop_gradient(u))
        kernel.assign(divided)


def _unit(x: Any) -> Any:
    return tf.math.l2_normalize(x, axis=None, epsilon=1e-14)
