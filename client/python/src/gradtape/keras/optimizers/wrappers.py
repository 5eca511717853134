"""Optimizers made of other optimizers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gradtape import dtypes
from gradtape.keras.optimizers.optimizer import Optimizer
from gradtape.tensor import cast
from gradtape.variable import Variable


class LossScaleOptimizer:
    """Divides gradients by a loss scale that adapts: for training in half precision.

    A step whose gradients are not all finite is skipped, and halves the scale; so many finite
    steps in a row double it. The server does it, within the step.

    Args:
        inner_optimizer: The optimizer; its state lives on in it.
        initial_scale: The first scale.
        dynamic_growth_steps: After so many finite steps in a row the scale doubles.
        name: Name for people.
        **kwargs: None.
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise ValueError(
                f"LossScaleOptimizer does not support {', '.join(kwargs)}. "
                "Instead, give it to the inner optimizer."
            )
        if not isinstance(inner_optimizer, Optimizer):
            raise TypeError(f"inner_optimizer must be an optimizer, got {inner_optimizer!r}")
        self.inner_optimizer = inner_optimizer
        self.initial_scale = float(initial_scale)
        self.dynamic_growth_steps = dynamic_growth_steps
        self.name = name or "loss_scale_optimizer"
        inner_optimizer._set(
            dynamic_loss_scale=True,
            initial_scale=self.initial_scale,
            dynamic_growth_steps=dynamic_growth_steps,
        )

    def __getattr__(self, name: str) -> Any:
        if name == "inner_optimizer":
            raise AttributeError(name)
        return getattr(self.inner_optimizer, name)

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def dynamic_scale(self) -> Any:
        """The present scale, a float32 tensor."""
        return self.inner_optimizer._read("loss_scale", dtypes.float32)

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by the present scale."""
        return loss * cast(self.dynamic_scale, loss.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an optimizer like this one, without its state."""
        from gradtape.keras.optimizers import serialize

        return {
            "inner_optimizer": serialize(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> LossScaleOptimizer:
        """Makes an optimizer from what `get_config` returned."""
        from gradtape.keras.optimizers import deserialize

        inner = deserialize(config["inner_optimizer"], custom_objects)
        return cls(**{**config, "inner_optimizer": inner})


class OptimizerMap:
    """Which optimizer steps which variable.

    Args:
        default_optimizer: For variables that nothing else fits.
        optimizer_map: Optimizers by path: an exact path, or a regular expression for all of it.
    """

    def __init__(
        self,
        default_optimizer: Optimizer,
        optimizer_map: Mapping[str, Optimizer] | None = None,
    ) -> None:
        self.default_optimizer = default_optimizer
        self._by_path = dict(optimizer_map or {})

    def __getitem__(self, path: str) -> Optimizer:
        if path in self._by_path:
            return self._by_path[path]
        fitting = [pattern for pattern in self._by_path if re.fullmatch(pattern, path)]
        if len(fitting) > 1:
            raise ValueError(f"Path '{path}' matches multiple optimizers: {fitting}")
        return self._by_path[fitting[0]] if fitting else self.default_optimizer

    def __setitem__(self, path: str, optimizer: Optimizer) -> None:
        if path in self._by_path:
            raise ValueError(f"'{path}' is already in the map")
        self._by_path[path] = optimizer

    @property
    def optimizers(self) -> list[Optimizer]:
        """All optimizers, each once."""
        return list(dict.fromkeys([self.default_optimizer, *self._by_path.values()]))


class MultiOptimizer:
    """Steps each variable by an optimizer of its own.

    Each optimizer's step is for all of its variables or for none.

    Args:
        optimizer_map: An `OptimizerMap`.
        loss_scale_factor: What the loss is multiplied by; the optimizers then have none.
        name: Name for people.
    """

    def __init__(
        self,
        optimizer_map: OptimizerMap,
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ) -> None:
        self.optimizer_map = optimizer_map
        self.loss_scale_factor = loss_scale_factor
        self.name = name or "multi_optimizer"
        for optimizer in optimizer_map.optimizers:
            if optimizer.loss_scale_factor is not None:
                raise ValueError("Give `loss_scale_factor` to MultiOptimizer only")
            if loss_scale_factor is not None:
                optimizer._set(loss_scale_factor=float(loss_scale_factor))

    @property
    def learning_rate(self) -> Any:
        """The default optimizer's learning rate; setting it sets all of them."""
        return self.optimizer_map.default_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        for optimizer in self.optimizer_map.optimizers:
            optimizer.learning_rate = value

    @property
    def iterations(self) -> int:
        """Updates that the default optimizer has made. Waits for the server."""
        return self.optimizer_map.default_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by what the gradients are then divided by."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> None:
        """Takes one step of each optimizer."""
        groups: dict[Optimizer, list[tuple[Any, Variable]]] = {}
        for gradient, variable in grads_and_vars:
            groups.setdefault(self.optimizer_map[variable.path], []).append((gradient, variable))
        for optimizer, pairs in groups.items():
            optimizer.apply_gradients(pairs)

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Variable]) -> None:
        """Takes one step with gradients and variables in two lists of the same length."""
        self.apply_gradients(zip(grads, trainable_variables, strict=True))

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Gives variables the values of their moving averages, where they have some."""
        for variable in var_list:
            self.optimizer_map[variable.path].finalize_variable_values([variable])
