"""Weights in HDF5 files, laid out as Keras does it.

A layer's weights are numbered in the group `vars` of its path; a path names the attributes that
lead to the layer, and in lists and in models the kinds of layers, numbered where there are several.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradtape.keras._registry import snake_case
from gradtape.keras.layers.base import Layer


def h5py() -> Any:
    """Returns the library, which is not installed with this package."""
    try:
        import h5py as library  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "Files of Keras have their weights in HDF5: install h5py, or `gradtape[h5]`."
        ) from error
    return library


def _children(layer: Layer) -> Iterator[tuple[str, Any]]:
    """Yields the attributes that hold layers, by the names that Keras gives them."""
    models = hasattr(layer, "keras_class_name")
    if (models and layer._graph is not None) or hasattr(layer, "_stack"):  # type: ignore[attr-defined]
        yield "layers", layer.layers  # type: ignore[attr-defined]
    renamed = layer.saved_as
    held = [(renamed.get(name, name), value) for name, value in vars(layer).items()]
    if models:
        held.append(("layers", layer.layers))  # type: ignore[attr-defined]
    # Those that are nobody else's business come last.
    held.sort(key=lambda item: "~" + item[0] if item[0].startswith("_") else item[0])
    for name, value in held:
        if isinstance(value, (Layer, list, tuple, dict)) and name not in _OF_LAYERS:
            yield name, value


# Attributes of all layers that hold no layers of their own.
_OF_LAYERS = frozenset((
    "_added_losses", "_build_shapes", "_compile_arguments", "_stack", "_weights", "first_outputs",
))  # fmt: skip


def groups(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """Yields the path of each layer in a layer, and the layer."""
    pending: list[tuple[str, Any]] = [("", layer)]
    seen: set[int] = set()
    while pending:
        path, value = pending.pop()
        if isinstance(value, Layer):
            if id(value) in seen:
                continue
            seen.add(id(value))
            yield path, value
            children = list(_children(value))
        else:
            children = _numbered(list(value.values()) if isinstance(value, dict) else value)
        start = f"{path}/" if path else ""
        pending += [(start + name, child) for name, child in reversed(children)]


def _numbered(items: Any) -> list[tuple[str, Any]]:
    used: Counter[str] = Counter()
    found = []
    for item in items:
        if isinstance(item, Layer):
            name = item.saved_name or snake_case(type(item).__name__)
            if getattr(item, "keras_class_name", "") == "Functional":
                name = "functional"
        elif isinstance(item, (list, tuple, dict)):
            name = "container"
        else:
            continue
        found.append((f"{name}_{used[name]}" if used[name] else name, item))
        used[name] += 1
    return found


def write(layer: Layer, file: Any) -> None:
    """Writes the weights of a layer to an open file."""
    for path, each in groups(layer):
        group = file.create_group(f"{path}/vars" if path else "vars")
        group.attrs["name"] = each.name
        store: dict[str, Any] = {}
        each.save_own_variables(store)
        for name, value in store.items():
            array = np.asarray(value)
            if array.dtype.name == "bfloat16":
                # HDF5 does not know it; Keras writes it so too.
                data = group.create_dataset(name, data=array.astype(np.float32))
                data.attrs["dtype"] = "bfloat16"
            else:
                group.create_dataset(name, data=array)


def read(layer: Layer, file: Any, skip_mismatch: bool = False) -> None:
    """Assigns what an open file has to the weights of a layer.

    Args:
        layer: The layer.
        file: The file.
        skip_mismatch: Whether layers that do not fit are left as they are, with a warning.
    """
    wrong = []
    for path, each in groups(layer):
        group = file.get(f"{path}/vars" if path else "vars")
        store = {} if group is None else {name: data[()] for name, data in group.items()}
        try:
            each.load_own_variables(store)
        except ValueError as error:
            wrong.append(f"{path or each.name}: {error}")
    if wrong:
        message = f"The weights in the file do not fit {layer.name}: {'; '.join(wrong)}"
        if not skip_mismatch:
            raise ValueError(message)
        warnings.warn(message, stacklevel=4)
