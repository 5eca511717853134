"""Helpers around training: progress bars, class numbers, seeds."""

from __future__ import annotations

import random as python_random
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.backend import clear_session, is_keras_tensor, standardize_dtype
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

# Seconds between two drawings of a bar: each reads the metrics, which waits for the server.
_INTERVAL = 0.5


class Progbar:
    """A bar for the steps of an epoch.

    Args:
        target: Number of steps, if it is known.
        width: Its width.
        verbose: 1 for a bar that is drawn again and again, 2 for a line at the end.
        interval: Seconds between two drawings.
        stateful_metrics: Ignored: numbers are shown as they are given.
        unit_name: What a step is called.
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = _INTERVAL,
        stateful_metrics: Any = None,
        unit_name: str = "step",
    ) -> None:
        self.target, self.width, self.verbose = target, width, verbose
        self.interval, self.unit_name = interval, unit_name
        self._start = time.perf_counter()
        self._last = self._start
        self._length = 0
        self._seen = 0

    def is_due(self) -> bool:
        """Says whether it is time to draw again."""
        return self.verbose == 1 and time.perf_counter() - self._last >= self.interval

    def update(
        self, current: int, values: Iterable[tuple[str, Any]] = (), finalize: bool | None = None
    ) -> None:
        """Draws the bar.

        Args:
            current: Number of steps made.
            values: Names and numbers to show.
            finalize: Whether this is the end; when all steps are made by default.
        """
        self._seen = current
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        if not finalize and not self.is_due():
            return
        self._last = time.perf_counter()
        text = self._text(current, list(values or ()), finalize)
        if self.verbose == 1:
            padding = " " * max(0, self._length - len(text))
            self._length = len(text)
            text = f"\r{text}{padding}"
        sys.stdout.write(text + ("\n" if finalize else ""))
        sys.stdout.flush()

    def add(self, n: int, values: Iterable[tuple[str, Any]] = ()) -> None:
        """Counts `n` more steps and draws the bar."""
        self.update(self._seen + n, values)

    def _text(self, current: int, values: list[tuple[str, Any]], finalize: bool) -> str:
        seconds = time.perf_counter() - self._start
        each = seconds / max(current, 1)
        if self.target:
            steps = f"{current:>{len(str(self.target))}}/{self.target}"
        else:
            steps = f"{current}/Unknown"
        parts = [steps]
        if self.verbose == 1 and self.target:
            done = int(self.width * current / self.target)
            parts.append("━" * done + "─" * (self.width - done))
        if finalize or not self.target:
            parts.append(f"{seconds:.0f}s")
        else:
            parts.append(f"{each * (self.target - current):.0f}s")
        parts.append(_duration(each, self.unit_name))
        parts += [f"- {name}: {_number(value)}" for name, value in values]
        return " ".join(parts)


def _duration(seconds: float, unit: str) -> str:
    if seconds >= 1:
        return f"{seconds:.0f}s/{unit}"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.0f}ms/{unit}"
    return f"{seconds * 1e6:.0f}us/{unit}"


def _number(value: Any) -> str:
    mean = float(np.mean(value))
    return f"{mean:.4f}" if abs(mean) > 1e-3 else f"{mean:.4e}"


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Returns rows of zeros with a one at the number of the class."""
    numbers = np.asarray(x, np.int64)
    if numbers.ndim > 1 and numbers.shape[-1] == 1:
        numbers = numbers.reshape(numbers.shape[:-1])
    count = int(numbers.max()) + 1 if num_classes is None else num_classes
    return np.eye(count, dtype=np.float32)[numbers]


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Divides an array by its norm along an axis."""
    array = np.asarray(x)
    norm = np.atleast_1d(np.linalg.norm(array, order, axis))
    return array / np.expand_dims(np.where(norm == 0, 1, norm), axis)


def set_random_seed(seed: int) -> None:
    """Seeds Python's, NumPy's and this package's random numbers."""
    python_random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)


def split_dataset(
    dataset: Any,
    left_size: Any = None,
    right_size: Any = None,
    shuffle: bool = False,
    seed: int | None = None,
) -> tuple[Any, Any]:
    """Splits arrays or a dataset in two.

    Args:
        dataset: Array, nest of arrays, or dataset.
        left_size: Share, or number of examples, of the first.
        right_size: Share, or number of examples, of the second.
        shuffle: Whether to shuffle first.
        seed: Seed of the order.
    """
    if isinstance(dataset, tf.data.Dataset):
        elements = list(dataset)
    else:
        elements = list(tf.data.Dataset.from_tensor_slices(dataset))
    if shuffle:
        np.random.default_rng(seed).shuffle(elements)  # type: ignore[arg-type]
    count = len(elements)

    def number(size: Any) -> int:
        return round(size * count) if isinstance(size, float) else int(size)

    if left_size is None and right_size is None:
        raise ValueError("Give at least one of `left_size` and `right_size`.")
    left = count - number(right_size) if left_size is None else number(left_size)
    right = count - left if right_size is None else number(right_size)
    if left + right > count:
        raise ValueError(f"The sizes {left} and {right} are more than the {count} examples.")
    make = tf.data.Dataset._of_elements
    return make(elements[:left]), make(elements[left : left + right])


def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> Any:
    """Joins lists of different lengths to an array.

    Args:
        sequences: The lists.
        maxlen: Length of the rows; that of the longest list by default.
        dtype: Element type.
        padding: "pre" or "post": where short lists are filled.
        truncating: "pre" or "post": where long lists are cut.
        value: What they are filled with.
    """
    if padding not in ("pre", "post") or truncating not in ("pre", "post"):
        raise ValueError(f'Expected "pre" or "post", got {padding!r} and {truncating!r}')
    rows = [np.asarray(row) for row in sequences]
    length = max(map(len, rows), default=0) if maxlen is None else maxlen
    inner = next((row.shape[1:] for row in rows if len(row)), ())
    filled = np.full((len(rows), length, *inner), value, dtype)
    for target, row in zip(filled, rows, strict=True):
        kept = row[max(len(row) - length, 0) :] if truncating == "pre" else row[:length]
        at = length - len(kept) if padding == "pre" else 0
        target[at : at + len(kept)] = kept
    return filled


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Returns what a dataset yields for inputs, targets and weights."""
    if y is None:
        return x if not isinstance(x, (tuple, list)) else (x,)
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Returns inputs, targets and weights of what a dataset yields."""
    from gradtape.keras import data_adapter

    return data_adapter.unpack(data)


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> Any:
    """Returns a dataset of windows of a series, and of the targets that belong to their starts.

    Args:
        data: The series: an array whose first axis is time.
        targets: One for each window, or None.
        sequence_length: Steps of a window.
        sequence_stride: Steps from one window to the next.
        sampling_rate: Steps of time from one step of a window to the next.
        batch_size: Windows of a batch; None for windows one by one.
        shuffle: Whether the windows come in another order each time.
        seed: Seed of the order.
        start_index: The first step of time that is used.
        end_index: The first one after that is not used any more.
    """
    series = np.asarray(data)
    first, last = start_index or 0, len(series) if end_index is None else end_index
    series = series[first:last]
    count = len(series) - (sequence_length - 1) * sampling_rate
    if targets is not None:
        targets = np.asarray(targets)[first:last]
        count = min(count, len(targets))
    starts = np.arange(0, max(count, 0), sequence_stride)
    rows = starts[:, None] + np.arange(sequence_length) * sampling_rate
    windows = series[rows]
    parts = windows if targets is None else (windows, targets[starts])
    dataset = tf.data.Dataset.from_tensor_slices(parts)
    if shuffle:
        dataset = dataset.shuffle(max(len(starts), 1), seed=seed)
    return dataset if batch_size is None else dataset.batch(batch_size)


def get_source_inputs(tensor: Any) -> list[Any]:
    """Returns the inputs that a symbolic tensor is computed from."""
    found: dict[int, Any] = {}
    pending, seen = [tensor], set()
    while pending:
        symbol = pending.pop()
        if id(symbol) in seen:
            continue
        seen.add(id(symbol))
        if symbol.node is None:
            found[id(symbol)] = symbol
        else:
            pending += reversed(symbol.node.sources())
    return list(found.values())


class PyDataset:
    """A sequence of batches that a program computes: `__len__` and `__getitem__`."""

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        self.workers, self.use_multiprocessing = workers, use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError("A PyDataset says in __getitem__ what a batch is.")

    def __len__(self) -> int:
        raise NotImplementedError("A PyDataset says in __len__ how many batches there are.")


Sequence = PyDataset

__all__ = [
    "CustomObjectScope",
    "Progbar",
    "PyDataset",
    "Sequence",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "get_source_inputs",
    "is_keras_tensor",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "register_keras_serializable",
    "serialize_keras_object",
    "set_random_seed",
    "split_dataset",
    "standardize_dtype",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]
