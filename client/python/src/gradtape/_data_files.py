"""Caches of datasets in files: a line that tells the structure, and then every leaf in order."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradtape import nest
from gradtape._data_elements import array
from gradtape.dtypes import as_dtype


def read(path: str) -> Iterator[Any]:
    """Yields the elements that `write` put into a file."""
    with open(path, "rb") as file:
        while line := file.readline():
            structure = _unfold(json.loads(line))
            leaves = []
            for _ in nest.flatten(structure):
                name = file.readline().decode().strip()
                leaf = np.load(file, allow_pickle=False)
                leaves.append(leaf.view(as_dtype(name).as_numpy_dtype) if name else leaf)
            yield nest.pack_sequence_as(structure, leaves)


def write(path: str, elements: Iterator[Any]) -> Iterator[Any]:
    """Yields elements, and when all were gone through, a file with them is there at once."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, unfinished = tempfile.mkstemp(dir=folder)
    try:
        with open(handle, "wb") as file:
            for element in elements:
                file.write(json.dumps(_fold(element)).encode() + b"\n")
                for leaf in map(array, nest.flatten(element)):
                    # NumPy's files do not know dtypes that are not its own.
                    strange = leaf.dtype.kind == "V"
                    file.write((as_dtype(leaf.dtype).name if strange else "").encode() + b"\n")
                    np.save(file, leaf.view(np.uint16) if strange else leaf, allow_pickle=False)
                yield element
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)


def _fold(element: Any) -> Any:
    """An element's structure as JSON: a list for a tuple, an object for a dictionary."""
    if isinstance(element, dict):
        return {name: _fold(part) for name, part in element.items()}
    if isinstance(element, tuple):
        return [_fold(part) for part in element]
    return None


def _unfold(folded: Any) -> Any:
    if isinstance(folded, dict):
        return {name: _unfold(part) for name, part in folded.items()}
    if isinstance(folded, list):
        return tuple(_unfold(part) for part in folded)
    return None
