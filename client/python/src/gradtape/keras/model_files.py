"""Whole models in files `*.keras`: archives of a configuration and the weights, as Keras has them.

Such a file holds no code. The optimizer is written with its arguments and without its state.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import gradtape as tf
from gradtape.keras import h5_weights, serialization
from gradtape.keras.layers.base import Layer

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def to_json(model: Layer, **kwargs: Any) -> str:
    """Returns a model without its weights as a text.

    Args:
        model: The model.
        **kwargs: Those of `json.dumps`.
    """
    return json.dumps(serialization.serialize_keras_object(model), **kwargs)


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the model that `to_json` made a text of, with new weights.

    Args:
        json_string: The text.
        custom_objects: Classes and functions of the program by name.
    """
    return serialization.deserialize_keras_object(json.loads(json_string), custom_objects)


def save_model(
    model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
) -> None:
    """Writes a model with its weights to a file.

    Args:
        model: The model.
        filepath: The file, which ends in `.keras`.
        overwrite: Whether a file that exists is replaced.
        zipped: Must not be False: a model is one file.
        **kwargs: None.
    """
    path = os.fspath(filepath)
    if kwargs:
        raise ValueError(f"save_model has no arguments {', '.join(kwargs)} here.")
    if not path.endswith(".keras") or zipped is False:
        raise ValueError(
            f"Models are written to one file whose name ends in `.keras`. Received: {path}"
        )
    if not model.built:
        warnings.warn("A model that was not built has no weights to write.", stacklevel=3)
    config = to_json(model)
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    weights = io.BytesIO()
    with h5_weights.h5py().File(weights, "w") as file:
        h5_weights.write(model, file)
    with _replacing(path, overwrite) as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr(
            _METADATA, json.dumps({"keras_version": tf.keras.__version__, "date_saved": now})
        )
        archive.writestr(_CONFIG, config)
        archive.writestr(_WEIGHTS, weights.getvalue())


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Returns the model that a file `*.keras` holds, also one that Keras wrote.

    Args:
        filepath: The file.
        custom_objects: Classes and functions of the program by name.
        compile: Whether to compile it as it was.
        safe_mode: Makes no difference: code in files never runs.
    """
    path = os.fspath(filepath)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"File not found: filepath={path}. Models are read from files `*.keras`, "
            "which are zip archives."
        )
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read(_CONFIG))
        if not compile:
            config["compile_config"] = None
        model = serialization.deserialize_keras_object(config, custom_objects)
        if _WEIGHTS not in archive.namelist():
            raise ValueError(f"{path} has no {_WEIGHTS}: other formats of weights are not read.")
        weights = io.BytesIO(archive.read(_WEIGHTS))
    with h5_weights.h5py().File(weights, "r") as file:
        h5_weights.read(model, file)
    return model


def is_h5(filepath: Any) -> bool:
    """Says whether a file of weights has Keras' format by its name."""
    return os.fspath(filepath).endswith(".weights.h5")


def save_h5(model: Layer, filepath: Any, overwrite: bool = True) -> None:
    """Writes all weights to a file of Keras' format."""
    if not model.built:
        raise ValueError(f"{model.name} has no weights yet: call it once, or build it.")
    library = h5_weights.h5py()
    with _replacing(os.fspath(filepath), overwrite) as part, library.File(part, "w") as file:
        h5_weights.write(model, file)


def load_h5(model: Layer, filepath: Any, skip_mismatch: bool = False) -> None:
    """Reads all weights from a file of Keras' format; see `gradtape.keras.saving.load`."""
    with h5_weights.h5py().File(os.fspath(filepath), "r") as file:
        h5_weights.read(model, file, skip_mismatch)


class _replacing:  # noqa: N801 - used as a function
    """Gives a file beside another one, and puts it in its place when all went well."""

    def __init__(self, path: str, overwrite: bool) -> None:
        if not overwrite and os.path.exists(path):
            raise FileExistsError(f"{path} exists, and overwrite is False")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self._path, self._part = path, f"{path}.part"

    def __enter__(self) -> str:
        return self._part

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            os.replace(self._part, self._path)
        elif os.path.exists(self._part):
            os.remove(self._part)
