"""What `fit`, `evaluate` and `predict` are given, as batches of tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import gradtape as tf
from gradtape import nest
from gradtape.keras.examples import Examples, Part, fit_in_session
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

    def executions(self, size: int) -> Iterator[tuple[int, int, Sequence[Any] | Part]]:
        """Groups batches: the numbers of the first and the last one, and the batches."""
        numbered = enumerate(self)
        while group := list(itertools.islice(numbered, size)):
            yield group[0][0], group[-1][0], [batch for _, batch in group]


class Resident(Batches):
    """Batches of examples that are on the server.

    Args:
        examples: The examples.
        order: Returns their numbers in the order of one epoch.
        steps: Number of batches in an epoch.
    """

    def __init__(
        self, examples: Examples, order: Callable[[], npt.NDArray[Any]], steps: int
    ) -> None:
        super().__init__(lambda: iter(examples.part(order()[: steps * examples.batch_size])), steps)
        self._examples = examples
        self._order = order

    def executions(self, size: int) -> Iterator[tuple[int, int, Sequence[Any] | Part]]:
        """Parts the batches: the numbers of the first and the last one, and the batches."""
        assert self.steps is not None, "there are so many examples"
        order, rows = self._order().astype(np.int32), self._examples.batch_size
        for first in range(0, self.steps, size):
            end = min(first + size, self.steps)
            yield first, end - 1, self._examples.part(order[first * rows : end * rows])


def batches(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    class_weight: Mapping[int, float] | None = None,
    steps: int | None = None,
    resident: bool = False,
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
        resident: Whether arrays go to the server once and stay there, if they are not too large.
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

    def tensors_of(rows: Iterable[npt.NDArray[Any]]) -> tuple[Any, ...]:
        left = iter(rows)
        filled = [None if leaf is None else next(left) for leaf in nest.flatten(data)]
        return _tensors(nest.pack_sequence_as(data, filled), class_weight)

    def order() -> npt.NDArray[Any]:
        return np.random.permutation(count) if shuffle else np.arange(count)

    if resident and count and fit_in_session(sum(array.nbytes for array in arrays)):
        return Resident(Examples(tensors_of(arrays), size), order, per_epoch)

    def make() -> Iterator[Any]:
        numbers = order()
        for step in range(per_epoch):
            rows = numbers[step * size : (step + 1) * size]
            yield tensors_of(array[rows] for array in arrays)

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
