"""What is written to files and read from them (`keras.saving`).

Here are weights in the format safetensors, that other programs read too; models are in
`model_files`, and the configurations of objects in `serialization`.

The name of a weight is its path in the model: the names of the layers that it is in, counted apart
in each layer where they are not given, and its own, as in `encoder/dense_1/kernel`.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gradtape.keras._registry import snake_case
from gradtape.keras.layers.base import Layer
from gradtape.keras.model_files import load_model, save_model
from gradtape.keras.serialization import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from gradtape.variable import Variable


def paths(layer: Layer, prefix: str = "", seen: set[int] | None = None) -> Iterator[Any]:
    """Yields the path and the variable of each weight, in the order of `weights`."""
    seen = set() if seen is None else seen
    for variable in layer._own():
        if id(variable) not in seen:
            seen.add(id(variable))
            yield prefix + _last(variable), variable
    used: Counter[str] = Counter()
    for inner in layer._layers():
        name = inner.name if inner._named else snake_case(type(inner).__name__)
        number = used[name]
        used[name] += 1
        yield from paths(inner, f"{prefix}{name}{f'_{number}' if number else ''}/", seen)


def save(layer: Layer, filepath: Any, overwrite: bool = True) -> None:
    """Writes all weights of a layer to a file.

    Args:
        layer: The layer.
        filepath: The file.
        overwrite: Whether a file that exists is replaced.
    """
    from safetensors.numpy import save_file

    path = _checked(filepath)
    if not overwrite and os.path.exists(path):
        raise FileExistsError(f"{path} exists, and overwrite is False")
    if not layer.built:
        raise ValueError(f"{layer.name} has no weights yet: call it once, or build it.")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    save_file(
        {name: variable.numpy() for name, variable in paths(layer)},
        path,
        {"format": "gradtape-keras"},
    )


def load(layer: Layer, filepath: Any, skip_mismatch: bool = False) -> None:
    """Assigns what a file has to the weights of a layer: all of them, or none.

    Args:
        layer: The layer.
        filepath: The file.
        skip_mismatch: Whether weights that the file does not have, or of another shape, are left
            as they are, with a warning.
    """
    from safetensors.numpy import load_file

    found = load_file(_checked(filepath))
    wanted = dict(paths(layer))
    wrong = [f"{name} is not in the file" for name in wanted if name not in found]
    wrong += [f"{name} is not in the model" for name in found if name not in wanted]
    wrong += [
        f"{name} has shape {found[name].shape}, expected {tuple(variable.shape)}"
        for name, variable in wanted.items()
        if name in found and found[name].shape != tuple(variable.shape)
    ]
    if wrong:
        message = f"The weights of {filepath} do not fit {layer.name}: {'; '.join(wrong)}"
        if not skip_mismatch:
            raise ValueError(message)
        warnings.warn(message, stacklevel=3)
    for name, variable in wanted.items():
        if name in found and found[name].shape == tuple(variable.shape):
            variable.assign(found[name])


def _last(variable: Variable) -> str:
    return variable.name.removesuffix(":0").rsplit("/", 1)[-1]


def _checked(filepath: Any) -> str:
    path = os.fspath(filepath)
    if path.endswith((".h5", ".keras", ".tf")):
        raise ValueError(
            f"Weights are written to files *.safetensors, or *.weights.h5 as Keras has them, "
            f"not to {os.path.basename(path)}"
        )
    return path


def load_weights(model: Layer, filepath: Any, skip_mismatch: bool = False) -> None:
    """Reads all weights of a model from a file; see `load`."""
    model.load_weights(filepath, skip_mismatch)  # type: ignore[attr-defined]


def save_weights(model: Layer, filepath: Any, overwrite: bool = True) -> None:
    """Writes all weights of a model to a file; see `save`."""
    model.save_weights(filepath, overwrite)  # type: ignore[attr-defined]


__all__ = [
    "CustomObjectScope",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]
