"""The variables of a layer and of the layers in it."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from typing import Any

import gradtape as tf
from gradtape.keras._configured import Arguments
from gradtape.module import Module
from gradtape.variable import Variable

# What holds neither variables nor layers that count.
_PLAIN = frozenset((bool, int, float, str, type(None), tf.DType, Arguments, types.FunctionType))


class Tracked(Module):
    """An object whose attributes may be variables and layers, also in lists and dictionaries."""

    _trainable: bool
    _weights: list[Variable]
    _path: str
    # The name of the class in files of Keras, where it is another there, in snake_case.
    saved_name = ""
    # Names that attributes have in files of Keras, where they are others here.
    saved_as: dict[str, str] = {}  # noqa: RUF012 - a constant of the class

    @property
    def trainable(self) -> bool:
        """Whether the weights are trained. Setting it sets it for the layers in this one too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self._layers():
            layer.trainable = value

    @property
    def variables(self) -> list[Variable]:  # type: ignore[override]
        """All variables: the layer's own, then those of the layers in it, as they were made."""
        return self._collect(lambda layer: True)

    @property
    def weights(self) -> list[Variable]:
        """All variables, in the order in which they were made."""
        return self.variables

    @property
    def trainable_variables(self) -> list[Variable]:  # type: ignore[override]
        """The variables to train: none of frozen layers, wherever they are in this one."""
        return [v for v in self._collect(lambda layer: layer.trainable) if v.trainable]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables to train."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:  # type: ignore[override]
        """The other variables."""
        trainable = {id(variable) for variable in self.trainable_variables}
        return [variable for variable in self.variables if id(variable) not in trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other variables."""
        return self.non_trainable_variables

    @property
    def path(self) -> str:
        """The names of the layers that this one was first called in, and its own."""
        return self._path or self.name

    def _own(self) -> list[Variable]:
        """Returns the variables that no inner layer has, those to train first."""
        own = {id(leaf): leaf for leaf in self._weights}
        own |= {id(leaf): leaf for leaf in self._tracked() if isinstance(leaf, Variable)}
        return sorted(own.values(), key=lambda variable: not variable._trainable)

    def _layers(self) -> list[Any]:
        """The layers directly in this one, in the order in which they were assigned."""
        found = {id(leaf): leaf for leaf in self._tracked() if isinstance(leaf, Tracked)}
        return list(found.values())

    def _tracked(self) -> list[Any]:
        """Returns the variables and layers among the attributes, also in lists and the like."""
        # A training step does this for each layer, so what holds nothing is left out at once.
        found: list[Any] = []
        pending = [value for value in vars(self).values() if type(value) not in _PLAIN]
        pending.reverse()
        while pending:
            value = pending.pop()
            if isinstance(value, (Variable, Tracked)):
                found.append(value)
            elif isinstance(value, (list, tuple)):
                pending.extend(reversed(value))
            elif isinstance(value, dict):
                pending.extend(reversed(value.values()))
        return found

    def _flattened(self, enter: Callable[[Any], bool] = lambda layer: True) -> list[Any]:
        """Returns this layer and those in it, each once, an outer one before its inner ones."""
        found: dict[int, Tracked] = {}

        def visit(layer: Tracked) -> None:
            if id(layer) not in found and enter(layer):
                found[id(layer)] = layer
                for inner in layer._layers():
                    visit(inner)

        visit(self)
        return list(found.values())

    def _collect(self, enter: Callable[[Any], bool]) -> list[Variable]:
        """Returns the variables of this layer and of those in it, each once."""
        found = {id(v): v for layer in self._flattened(enter) for v in layer._own()}
        return list(found.values())

    def get_weights(self) -> list[Any]:
        """Returns the values of all variables as NumPy arrays."""
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Assigns values to all variables, in their order."""
        variables = self.weights
        if len(weights) != len(variables):
            raise ValueError(
                f"You called `set_weights(weights)` on layer '{self.name}' with a weight list of "
                f"length {len(weights)}, but the layer was expecting {len(variables)} weights."
            )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)

    def save_own_variables(self, store: Any) -> None:
        """Puts the values of the layer's own variables into a dictionary, by their numbers."""
        for number, variable in enumerate(self._own()):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Assigns what `save_own_variables` put into a dictionary."""
        variables = self._own()
        if len(store) != len(variables):
            hint = "" if variables else " It has none yet: call it once, or build it."
            raise ValueError(
                f"Layer '{self.name}' expected {len(variables)} variables, but received "
                f"{len(store)} variables during loading.{hint}"
            )
        for number, variable in enumerate(variables):
            value = store[str(number)]
            if tuple(value.shape) != tuple(variable.shape):
                raise ValueError(
                    f"{variable.path} has shape {tuple(variable.shape)}, and the file's value "
                    f"{tuple(value.shape)}"
                )
            variable.assign(tf.cast(tf.convert_to_tensor(value), variable.dtype))

    def count_params(self) -> int:
        """Returns the number of elements of all variables."""
        return sum(math.prod(variable.shape) for variable in self.weights)
