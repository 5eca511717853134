"""Models: layers of layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradtape as tf
from gradtape.keras.layers import InputLayer, Layer


class Model(Layer):
    """The base of models. A subclass makes layers in `__init__` and computes in `call`."""

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    @property
    def layers(self) -> list[Layer]:
        """The layers, in the order in which they were assigned."""
        return self._layers()

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )


class Sequential(Model):
    """Layers applied one after the other.

    Args:
        layers: The layers, or functions.
        trainable: Whether the weights of the layers are trained.
        name: Name for people.
    """

    def __init__(
        self,
        layers: Iterable[Any] | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self._stack: list[Any] = []
        self._example: Any = None
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Appends a layer."""
        if not callable(layer):
            raise ValueError(f"Only layers and functions can be added. Received: {layer!r}")
        if isinstance(layer, InputLayer):
            if self._stack:
                raise ValueError("An input can only be the first layer of a Sequential.")
            self._example = tf.zeros((1, *layer.shape), layer.dtype)
            return
        self._stack.append(layer)
        if self._example is not None:
            # One example of zeros makes the weights, and shows the next layer what it gets.
            self._example = layer(self._example)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        for layer in self._stack:
            inputs = layer(inputs)
        return inputs
