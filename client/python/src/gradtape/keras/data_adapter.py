"""What `fit`, `evaluate` and `predict` are given, as batches of tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

import gradtape as tf
from gradtape import nest
from gradtape.tensor import Value


class Batches:
    """Batches of inputs, targets and sample weights, which can be gone through again and again.

    Args:
        make: Returns an iterator over the batches of one epoch.
        steps: Number of batches in an epoch, if it is known.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], steps: int | None) -> None:
        self._make = make
        self.steps = steps

    def __iter__(self) -> Iterator[Any]:
        return self._make()


def batches(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    class_weight: Mapping[int, float] | None = None,
    steps: int | None = None,
) -> Batches:
    """Returns the batches of arrays, of a dataset, of a generator or of another iterable.

    Args:
        x: Array, tensor, or nest of them; or an iterable of batches.
        y: Targets of the same length; an iterable brings its own.
        sample_weight: Weights of the examples.
        batch_size: Number of examples in a batch, 32 by default.
        shuffle: Whether the examples of arrays come in another order each time.
        class_weight: Weights of the examples by the number of their class.
        steps: Batches of one epoch, if not all there are.
    """
    if is_iterable(x):
        if y is not None or sample_weight is not None:
            raise ValueError("An iterable of batches brings its own targets and weights.")
        return _of_iterable(x, steps, class_weight)
    data = (x, y, sample_weight)
    arrays = [to_array(leaf) for leaf in nest.flatten(data) if leaf is not None]
    count = len(arrays[0]) if arrays else 0
    if any(len(array) != count for array in arrays):
        raise ValueError(
            "Data cardinality is ambiguous. Make sure all arrays contain the same number of "
            f"samples. Got {[len(array) for array in arrays]}"
        )
    size = batch_size or 32
    available = math.ceil(count / size)
    per_epoch = available if steps is None else min(steps, available)

    def make() -> Iterator[Any]:
        order = np.random.permutation(count) if shuffle else None
        for step in range(per_epoch):
            rows: Any = slice(step * size, (step + 1) * size)
            taken = iter(array[rows if order is None else order[rows]] for array in arrays)
            filled = [None if leaf is None else next(taken) for leaf in nest.flatten(data)]
            yield _tensors(nest.pack_sequence_as(data, filled), class_weight)

    return Batches(make, per_epoch)


def _of_iterable(source: Any, steps: int | None, class_weight: Any) -> Batches:
    try:
        available = len(source)
    except TypeError:
        available = None

    def all_once() -> Iterator[Any]:
        if hasattr(source, "__getitem__") and available is not None:
            # A sequence of batches, such as `keras.utils.PyDataset`.
            return (source[i] for i in range(available))
        return iter(source)

    def again_and_again() -> Iterator[Any]:
        while True:
            count = 0
            for count, item in enumerate(all_once(), 1):  # noqa: B007
                yield item
            if not count:
                return

    # With a number of steps, an epoch goes on where the last one ended.
    endless = again_and_again()

    def make() -> Iterator[Any]:
        items = all_once() if steps is None else itertools.islice(endless, steps)
        return (_tensors(unpack(item), class_weight) for item in items)

    return Batches(make, available if steps is None else steps)


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """Returns inputs, targets and sample weights, of which the latter may be missing."""
    if isinstance(data, (tuple, list)) and 1 <= len(data) <= 3 and isinstance(data, tuple):
        x, y, sample_weight = (*data, None, None)[:3]
        return x, y, sample_weight
    return data, None, None


def split(data: tuple[Any, ...], fraction: float) -> tuple[Any, Any]:
    """Cuts the last examples off all arrays: the share that `fraction` says."""
    count = len(to_array(nest.flatten(data)[0]))
    at = math.floor(count * (1.0 - fraction))
    if at in (0, count):
        raise ValueError(
            f"Training data contains {count} samples, which is not sufficient to split it into a "
            f"validation and training set as specified by `validation_split={fraction}`."
        )

    def part(rows: slice) -> Any:
        return nest.map_structure(lambda leaf: None if leaf is None else to_array(leaf)[rows], data)

    return part(slice(0, at)), part(slice(at, None))


def is_iterable(x: Any) -> bool:
    """Says whether `x` yields batches, rather than being examples itself."""
    if isinstance(x, (np.ndarray, Value, list, tuple, Mapping)) or hasattr(x, "__array__"):
        return False
    return isinstance(x, Iterable) or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def to_array(x: Any) -> Any:
    """Returns an array of a dtype that the server has: doubles become float32, as in Keras."""
    array = np.asarray(x)
    if array.dtype == np.float64:
        return array.astype(np.float32)
    return array.astype(np.int32) if array.dtype.kind in "iu" and array.itemsize < 4 else array


def _tensors(data: tuple[Any, Any, Any], class_weight: Any) -> tuple[Any, ...]:
    """Returns inputs, targets and weights as tensors, as far as there are any."""
    x, y, sample_weight = data
    if class_weight is not None:
        weights = _class_weights(y, class_weight)
        sample_weight = weights if sample_weight is None else to_array(sample_weight) * weights

    def tensor(leaf: Any) -> Any:
        return leaf if leaf is None or isinstance(leaf, Value) else tf.constant(to_array(leaf))

    count = 3 if sample_weight is not None else 2 if y is not None else 1
    return tuple(nest.map_structure(tensor, part) for part in (x, y, sample_weight)[:count])


def _class_weights(y: Any, class_weight: Mapping[int, float]) -> Any:
    classes = to_array(y)
    if classes.ndim > 1 and classes.shape[-1] > 1:
        classes = classes.argmax(-1)
    rows = classes.reshape(len(classes)).astype(int)
    return np.array([class_weight.get(int(row), 1.0) for row in rows], np.float32)
