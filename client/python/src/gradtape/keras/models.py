"""Models: layers of layers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from gradtape.keras.layers import Layer


class Model(Layer):
    """The base of models. A subclass makes layers in `__init__` and computes in `call`."""

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    @property
    def layers(self) -> list[Layer]:
        """The layers, in the order in which they were assigned."""
        return self._layers()

    @property
    def trainable_variables(self) -> list[Any]:  # type: ignore[override]
        """The variables to train, in the order of the layers; none of frozen layers."""
        if not self.trainable:
            return []
        frozen = {id(v) for layer in self.layers if not layer.trainable for v in layer.variables}
        return [v for v in self.variables if v.trainable and id(v) not in frozen]


class Sequential(Model):
    """Layers applied one after the other.

    Args:
        layers: The layers, or functions.
        name: Name for people.
    """

    def __init__(self, layers: Iterable[Any] | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        self._stack: list[Any] = []
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Appends a layer."""
        if not callable(layer):
            raise ValueError(f"Only layers and functions can be added. Received: {layer!r}")
        self._stack.append(layer)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the outputs."""
        for layer in self._stack:
            inputs = layer(inputs, training=training) if _wants_training(layer) else layer(inputs)
        return inputs


def _wants_training(layer: Any) -> bool:
    call = getattr(layer, "call", None)
    return call is not None and "training" in inspect.signature(call).parameters
