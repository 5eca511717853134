"""Optimizers and schedules, with Keras' names, arguments and formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradtape.keras import _registry
from gradtape.keras.optimizers import schedules as schedules
from gradtape.keras.optimizers.optimizer import Optimizer as Optimizer
from gradtape.keras.optimizers.rules import (
    SGD as SGD,
    Adadelta as Adadelta,
    Adafactor as Adafactor,
    Adagrad as Adagrad,
    Adam as Adam,
    Adamax as Adamax,
    AdamW as AdamW,
    Ftrl as Ftrl,
    Lamb as Lamb,
    Lion as Lion,
    Muon as Muon,
    Nadam as Nadam,
    RMSprop as RMSprop,
    ScheduleFreeAdamW as ScheduleFreeAdamW,
)
from gradtape.keras.optimizers.wrappers import (
    LossScaleOptimizer as LossScaleOptimizer,
    MultiOptimizer as MultiOptimizer,
    OptimizerMap as OptimizerMap,
)

_BY_NAME: dict[str, Any] = {
    optimizer.__name__.lower(): optimizer
    for optimizer in (
        SGD,
        Adadelta,
        Adafactor,
        Adagrad,
        Adam,
        Adamax,
        AdamW,
        Ftrl,
        Lamb,
        Lion,
        LossScaleOptimizer,
        Muon,
        Nadam,
        RMSprop,
        ScheduleFreeAdamW,
    )
}


def get(identifier: Any) -> Any:
    """Returns an optimizer by name or by what `serialize` returned; one is returned as it is."""
    if isinstance(identifier, (Optimizer, LossScaleOptimizer, MultiOptimizer)):
        return identifier
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    if isinstance(identifier, str):
        identifier = identifier.lower()
    return _registry.find("optimizer", _BY_NAME, identifier)


def serialize(optimizer: Any) -> dict[str, Any]:
    """Returns the class and the arguments of an optimizer, without its state."""
    return {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes an optimizer from what `serialize` returned."""
    known = {**_BY_NAME, **{name.lower(): value for name, value in (custom_objects or {}).items()}}
    name = config["class_name"].lower()
    if name not in known:
        raise ValueError(f"Unknown optimizer: {config['class_name']}")
    return known[name].from_config(config["config"], custom_objects)
