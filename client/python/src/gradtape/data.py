"""Streams of examples, made lazily in this process (`tf.data.Dataset`)."""

from __future__ import annotations

import builtins
import itertools
import os
import types
from collections.abc import Callable, Iterable
from collections.abc import Iterator as Elements
from typing import Any

import numpy as np

from gradtape import _data_files, errors, nest
from gradtape._data_batching import Batching
from gradtape._data_elements import array, array_of, as_nest, call, tensors
from gradtape._data_mixing import Mixing
from gradtape.tensor import constant, convert_to_tensor
from gradtape.tensor_shape import TensorSpec

AUTOTUNE = -1
INFINITE_CARDINALITY = -1
UNKNOWN_CARDINALITY = -2


class Iterator:
    """Goes through a dataset once (`tf.data.Iterator`)."""

    def __init__(self, elements: Elements[Any]) -> None:
        self._elements = elements

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        return next(self._elements)

    def get_next(self) -> Any:
        """Returns the next element, or raises OutOfRangeError if there is none."""
        for element in self._elements:
            return element
        raise errors.OutOfRangeError("End of sequence", reason="END_OF_SEQUENCE")


class NumpyIterator(Iterator):
    """Goes through a dataset once, with NumPy arrays as elements."""


class ThreadingOptions:
    """How many threads a dataset may use. Has no effect: there are none."""

    max_intra_op_parallelism: int | None = None
    private_threadpool_size: int | None = None


class Options:
    """What `Dataset.with_options` takes. Has no effect: the order is always the same."""

    def __init__(self) -> None:
        self.deterministic: bool | None = None
        self.autotune = types.SimpleNamespace()
        self.distribute_options = types.SimpleNamespace()
        self.experimental_distribute = types.SimpleNamespace()
        self.experimental_optimization = types.SimpleNamespace()
        self.experimental_deterministic: bool | None = None
        self.threading = ThreadingOptions()


class Dataset(Batching, Mixing):
    """A sequence of elements: nests of NumPy arrays until an op touches them, then of tensors.

    A program goes through it with `for`, as often as it likes, and gets tensors.

    Args:
        make: Returns an iterator over all elements.
        length: Number of elements, INFINITE_CARDINALITY or UNKNOWN_CARDINALITY.
    """

    _options: Options | None = None

    # === Sources ===

    @staticmethod
    def from_tensor_slices(tensors: Any, name: str | None = None) -> Dataset:
        """The slices of arrays along their first axis."""
        arrays = nest.map_structure(np.asarray, as_nest(tensors))
        counts = {len(array) for array in nest.flatten(arrays)}
        if len(counts) != 1:
            raise ValueError(f"Dimensions {sorted(counts)} are not compatible")
        count = counts.pop()

        def make() -> Elements[Any]:
            return (nest.map_structure(lambda a, i=i: a[i], arrays) for i in builtins.range(count))

        return Dataset(make, count)

    @staticmethod
    def from_tensors(tensors: Any, name: str | None = None) -> Dataset:
        """One element."""
        element = nest.map_structure(np.asarray, as_nest(tensors))
        return Dataset(lambda: iter([element]), 1)

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]],
        output_types: Any = None,
        output_shapes: Any = None,
        args: Any = None,
        output_signature: Any = None,
        name: str | None = None,
    ) -> Dataset:
        """What a generator function yields.

        Args:
            generator: The function, which is called anew for each pass.
            output_types: Dtypes of the elements; those of their values by default.
            output_shapes: Ignored.
            args: Arguments of the function.
            output_signature: Instead of `output_types`, a nest of what has a `dtype`.
            name: Ignored.
        """
        dtypes = output_types
        if output_signature is not None:
            dtypes = nest.map_structure(lambda spec: spec.dtype, output_signature)

        def make() -> Elements[Any]:
            for element in generator(*(args or ())):
                if dtypes is None:
                    yield nest.map_structure(array, as_nest(element))
                else:
                    yield nest.map_structure(array_of, as_nest(element), dtypes)

        return Dataset(make, UNKNOWN_CARDINALITY)

    @staticmethod
    def range(*args: int, output_type: Any = None, name: str | None = None) -> Dataset:
        """Numbers, as of Python's `range`, as int64."""
        numbers = builtins.range(*(int(arg) for arg in args))
        dtype = np.int64 if output_type is None else output_type.as_numpy_dtype
        return Dataset(lambda: (np.asarray(i, dtype) for i in numbers), len(numbers))

    @staticmethod
    def zip(*args: Any, datasets: Any = None, name: str | None = None) -> Dataset:
        """Tuples of the elements of several datasets, as many as the shortest has."""
        given = datasets if datasets is not None else args
        if len(given) == 1 and isinstance(given[0], (list, tuple)):
            given = tuple(given[0])
        lengths = [d._length for d in given if d._length != INFINITE_CARDINALITY]
        length = min(lengths, default=INFINITE_CARDINALITY)
        return Dataset(lambda: builtins.zip(*(d._make() for d in given), strict=False), length)

    # === What makes other datasets ===

    def shuffle(
        self,
        buffer_size: int,
        seed: int | None = None,
        reshuffle_each_iteration: bool = True,
        name: str | None = None,
    ) -> Dataset:
        """Takes each element at random from the next `buffer_size` ones.

        Args:
            buffer_size: The number.
            seed: Seed of the order.
            reshuffle_each_iteration: Whether each pass has another order.
            name: Ignored.
        """
        passes = np.random.SeedSequence(seed if seed is not None else np.random.randint(2**31))
        first = passes.spawn(1)[0]

        def make() -> Elements[Any]:
            child = passes.spawn(1)[0] if reshuffle_each_iteration else first
            choose = np.random.default_rng(child)
            elements = self._make()
            buffer = list(itertools.islice(elements, int(buffer_size)))
            for element in elements:
                i = int(choose.integers(len(buffer)))
                buffer[i], element = element, buffer[i]
                yield element
            for i in choose.permutation(len(buffer)):
                yield buffer[i]

        return Dataset(make, self._length)

    def map(
        self,
        map_func: Callable[..., Any],
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
        synchronous: bool | None = None,
        use_unbounded_threadpool: bool = False,
        name: str | None = None,
    ) -> Dataset:
        """Applies a function to each element, which gets tensors; of a tuple, one each."""

        def make() -> Elements[Any]:
            return (as_nest(call(map_func, element)) for element in self._make())

        return Dataset(make, self._length)

    def flat_map(self, map_func: Callable[..., Dataset], name: str | None = None) -> Dataset:
        """Joins the datasets that a function makes of each element."""

        def make() -> Elements[Any]:
            for element in self._make():
                yield from call(map_func, element)._make()

        return Dataset(make, UNKNOWN_CARDINALITY)

    def filter(self, predicate: Callable[..., Any], name: str | None = None) -> Dataset:
        """Keeps the elements for which a function returns true, which waits for each."""

        def make() -> Elements[Any]:
            return (element for element in self._make() if bool(call(predicate, element)))

        return Dataset(make, UNKNOWN_CARDINALITY)

    def take_while(self, predicate: Callable[..., Any], name: str | None = None) -> Dataset:
        """Keeps the elements before the first for which a function returns false."""

        def make() -> Elements[Any]:
            return itertools.takewhile(lambda e: bool(call(predicate, e)), self._make())

        return Dataset(make, UNKNOWN_CARDINALITY)

    def repeat(self, count: int | None = None, name: str | None = None) -> Dataset:
        """Begins again at the end: so many times in all, or without end."""
        endless = count is None or count < 0

        def make() -> Elements[Any]:
            for _ in itertools.count() if endless else builtins.range(count or 0):
                empty = True
                for element in self._make():
                    empty = False
                    yield element
                if empty:
                    return

        if endless:
            return Dataset(make, INFINITE_CARDINALITY)
        return Dataset(make, self._known(self._length * (count or 0)))

    def take(self, count: int, name: str | None = None) -> Dataset:
        """The first elements; all of them for -1."""
        if count < 0:
            return self
        length = count if self._length == INFINITE_CARDINALITY else min(count, self._length)
        return Dataset(lambda: itertools.islice(self._make(), count), length)

    def skip(self, count: int, name: str | None = None) -> Dataset:
        """All elements but the first ones; none for -1."""
        if count < 0:
            return Dataset(lambda: iter(()), 0)
        length = self._known(max(self._length - count, 0))
        return Dataset(lambda: itertools.islice(self._make(), count, None), length)

    def shard(self, num_shards: int, index: int, name: str | None = None) -> Dataset:
        """Every `num_shards`-th element from the one with number `index` on."""
        length = self._known(len(builtins.range(index, max(self._length, 0), num_shards)))
        return Dataset(lambda: itertools.islice(self._make(), index, None, num_shards), length)

    def enumerate(self, start: int = 0, name: str | None = None) -> Dataset:
        """Pairs of a number and an element."""

        def make() -> Elements[Any]:
            return (
                (np.int64(i), element) for i, element in builtins.enumerate(self._make(), start)
            )

        return Dataset(make, self._length)

    def concatenate(self, dataset: Dataset, name: str | None = None) -> Dataset:
        """The elements of this dataset, and then those of another."""
        known = self._length >= 0 and dataset._length >= 0
        length = self._length + dataset._length if known else min(self._length, dataset._length)
        return Dataset(lambda: itertools.chain(self._make(), dataset._make()), length)

    def cache(self, filename: str = "", name: str | None = None) -> Dataset:
        """Keeps the elements once they were all gone through.

        Args:
            filename: A file to keep them in; in memory by default. Tensors are fetched for it.
            name: Ignored.
        """
        if filename:
            return self._cached(os.fspath(filename))
        kept: list[list[Any]] = []

        def make() -> Elements[Any]:
            if kept:
                yield from kept[0]
                return
            elements = []
            for element in self._make():
                elements.append(element)
                yield element
            kept[:] = [elements]

        return Dataset(make, self._length)

    def _cached(self, path: str) -> Dataset:
        def make() -> Elements[Any]:
            if os.path.exists(path):
                return _data_files.read(path)
            return _data_files.write(path, self._make())

        return Dataset(make, self._length)

    def prefetch(self, buffer_size: int, name: str | None = None) -> Dataset:
        """Returns the dataset: operations do not wait, so there is nothing to hide."""
        return self

    def with_options(self, options: Options, name: str | None = None) -> Dataset:
        """Returns the dataset with options, which are kept and change nothing."""
        dataset = Dataset(self._make, self._length)
        dataset._options = options
        return dataset

    def options(self) -> Options:
        """Returns the options that were given last."""
        return self._options or Options()

    def apply(self, transformation_func: Callable[[Dataset], Dataset]) -> Dataset:
        """Returns what a function makes of the dataset."""
        return transformation_func(self)

    # === What ends in values ===

    def __iter__(self) -> Iterator:
        return Iterator(tensors(element) for element in self._make())

    def __len__(self) -> int:
        if self._length < 0:
            raise TypeError("The dataset is infinite or of unknown length.")
        return self._length

    def __bool__(self) -> bool:
        return True

    def cardinality(self) -> Any:
        """Returns the number of elements; negative where there is no end or nobody knows."""
        return constant(np.int64(self._length))

    def as_numpy_iterator(self) -> NumpyIterator:
        """Returns an iterator over the elements as NumPy arrays."""
        return NumpyIterator(nest.map_structure(array, element) for element in self._make())

    @property
    def element_spec(self) -> Any:
        """What the first element is like, which it takes to tell."""
        return nest.map_structure(_spec, next(iter(self)))

    def reduce(
        self, initial_state: Any, reduce_func: Callable[[Any, Any], Any], name: str | None = None
    ) -> Any:
        """Folds a function over the elements: it takes the state and an element."""
        state = nest.map_structure(convert_to_tensor, initial_state)
        for element in self:
            state = reduce_func(state, element)
        return state

    def get_single_element(self, name: str | None = None) -> Any:
        """Returns the only element."""
        elements = list(itertools.islice(iter(self), 2))
        if len(elements) != 1:
            raise ValueError("The dataset does not have exactly one element.")
        return elements[0]


def _spec(leaf: Any) -> Any:
    return leaf.element_spec if isinstance(leaf, Dataset) else TensorSpec.from_tensor(leaf)


__all__ = [
    "AUTOTUNE",
    "INFINITE_CARDINALITY",
    "UNKNOWN_CARDINALITY",
    "Dataset",
    "Iterator",
    "NumpyIterator",
    "Options",
    "ThreadingOptions",
    "experimental",
]

from gradtape import _data_experimental as experimental  # noqa: E402 - it uses this module
