"""The part of `Dataset` that joins elements: batches, windows and groups."""

from __future__ import annotations

import collections
import itertools
import math
from builtins import range as _range
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradtape import nest
from gradtape._data_elements import Sequence, array, call, stack
from gradtape.tensor import constant, convert_to_tensor


class Batching(Sequence):
    """Methods that join elements and take them apart."""

    def batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
        name: str | None = None,
    ) -> Any:
        """Joins so many elements each along a new first axis; the last batch may be smaller."""
        join = lambda rows: nest.map_structure(lambda *parts: stack(parts), *rows)  # noqa: E731
        return self._batches(batch_size, drop_remainder, join)

    def padded_batch(
        self,
        batch_size: int,
        padded_shapes: Any = None,
        padding_values: Any = None,
        drop_remainder: bool = False,
        name: str | None = None,
    ) -> Any:
        """Joins so many elements each, padded to one shape. Elements that are tensors are fetched.

        Args:
            batch_size: The number.
            padded_shapes: Shapes, in the structure of an element. An extent of None or -1, as all
                are by default, stands for the largest of the batch.
            padding_values: What is put behind shorter elements: one value for all, or a structure
                of them; 0 by default.
            drop_remainder: Whether a last batch that is smaller is left out.
            name: Ignored.
        """
        return self._padded(
            batch_size, lambda row: _like(row, padded_shapes), padding_values, drop_remainder
        )

    def _padded(
        self, size: int, shapes_of: Callable[[Any], list[Any]], values: Any, drop_remainder: bool
    ) -> Any:
        def join(rows: list[Any]) -> Any:
            columns = zip(*(nest.flatten(row) for row in rows), strict=True)
            leaves = zip(columns, shapes_of(rows[0]), _like(rows[0], values), strict=True)
            return nest.pack_sequence_as(rows[0], [_pad(*leaf) for leaf in leaves])

        return self._batches(size, drop_remainder, join)

    def _batches(self, size: int, drop_remainder: bool, join: Callable[[list[Any]], Any]) -> Any:
        if size < 1:
            raise ValueError(f"batch_size must be positive, got {size}")

        def make() -> Iterator[Any]:
            elements = self._make()
            while rows := list(itertools.islice(elements, int(size))):
                if drop_remainder and len(rows) < size:
                    return
                yield join(rows)

        count = self._length / size
        length = math.floor(count) if drop_remainder else math.ceil(count)
        return type(self)(make, self._known(length))

    def unbatch(self, name: str | None = None) -> Any:
        """Takes the elements apart along their first axis."""

        def make() -> Iterator[Any]:
            for element in self._make():
                count = len(nest.flatten(element)[0])
                for i in _range(count):
                    yield nest.map_structure(lambda leaf, i=i: leaf[i], element)

        return type(self)(make, -2)

    def rebatch(
        self, batch_size: Any, drop_remainder: bool = False, name: str | None = None
    ) -> Any:
        """Makes batches of another size out of batches.

        Args:
            batch_size: The size, or several that take turns.
            drop_remainder: Whether a last batch that is smaller is left out.
            name: Ignored.
        """
        sizes = np.asarray(batch_size).reshape(-1).tolist()
        if min(sizes, default=0) < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        rows = self.unbatch()

        def make() -> Iterator[Any]:
            elements = rows._make()
            for size in itertools.cycle(sizes):
                batch = list(itertools.islice(elements, size))
                if not batch or (drop_remainder and len(batch) < size):
                    return
                yield nest.map_structure(lambda *parts: stack(parts), *batch)

        return type(self)(make, -2)

    def window(
        self,
        size: int,
        shift: int | None = None,
        stride: int = 1,
        drop_remainder: bool = False,
        name: str | None = None,
    ) -> Any:
        """Datasets of neighbouring elements, in the structure of an element.

        Args:
            size: Elements of a window.
            shift: Distance between the starts of windows; `size` by default.
            stride: Distance between elements of a window.
            drop_remainder: Whether last windows that are smaller are left out.
            name: Ignored.
        """
        step = size if shift is None else int(shift)
        if min(size, step, stride) < 1:
            raise ValueError("size, shift and stride must be positive")

        def make() -> Iterator[Any]:
            elements = self._make()
            buffer: collections.deque[Any] = collections.deque()
            while True:
                missing = (size - 1) * stride + 1 - len(buffer)
                buffer.extend(itertools.islice(elements, max(missing, 0)))
                chosen = list(itertools.islice(buffer, 0, None, stride))[:size]
                if not chosen or (drop_remainder and len(chosen) < size):
                    return
                yield nest.map_structure(lambda *leaves: self._of_elements(list(leaves)), *chosen)
                for _ in _range(min(step, len(buffer))):
                    buffer.popleft()
                skipped = step - ((size - 1) * stride + 1)
                collections.deque(itertools.islice(elements, max(skipped, 0)), maxlen=0)

        return type(self)(make, -2)

    def group_by_window(
        self,
        key_func: Callable[..., Any],
        reduce_func: Callable[..., Any],
        window_size: int | None = None,
        window_size_func: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Gathers elements by keys, and joins the datasets that a function makes of each group.

        Args:
            key_func: Returns the key of an element, an integer, which is fetched.
            reduce_func: Takes a key and a dataset of elements, and returns a dataset.
            window_size: Elements of a group; at the end, groups may be smaller.
            window_size_func: Instead of `window_size`, returns it for a key.
            name: Ignored.
        """
        if (window_size is None) == (window_size_func is None):
            raise ValueError("Exactly one of window_size and window_size_func must be given")

        def size_of(key: int) -> int:
            if window_size_func is None:
                return int(window_size)  # type: ignore[arg-type]
            return int(window_size_func(constant(np.int64(key))))

        def made(key: int, group: list[Any]) -> Iterator[Any]:
            dataset = reduce_func(constant(np.int64(key)), self._of_elements(group))
            return dataset._make()  # type: ignore[no-any-return]

        def make() -> Iterator[Any]:
            groups: dict[int, list[Any]] = {}
            for element in self._make():
                key = int(call(key_func, element))
                group = groups.setdefault(key, [])
                group.append(element)
                if len(group) >= size_of(key):
                    yield from made(key, groups.pop(key))
            for key in sorted(groups):
                yield from made(key, groups[key])

        return type(self)(make, -2)

    def bucket_by_sequence_length(
        self,
        element_length_func: Callable[..., Any],
        bucket_boundaries: Any,
        bucket_batch_sizes: Any,
        padded_shapes: Any = None,
        padding_values: Any = None,
        pad_to_bucket_boundary: bool = False,
        no_padding: bool = False,
        drop_remainder: bool = False,
        name: str | None = None,
    ) -> Any:
        """Joins elements of similar length to padded batches.

        Args:
            element_length_func: Returns the length of an element, which is fetched.
            bucket_boundaries: Lengths from which on another bucket begins.
            bucket_batch_sizes: The size of a batch for each bucket: one more than boundaries.
            padded_shapes: As for `padded_batch`.
            padding_values: As for `padded_batch`.
            pad_to_bucket_boundary: Whether extents that are not given become the largest length
                of the bucket, and not of the batch.
            no_padding: Whether elements of a bucket have one shape already.
            drop_remainder: Whether last batches that are smaller are left out.
            name: Ignored.
        """
        bounds, sizes = list(bucket_boundaries), list(bucket_batch_sizes)
        if len(sizes) != len(bounds) + 1:
            raise ValueError("bucket_batch_sizes must have one number more than bucket_boundaries")

        def bucket(*element: Any) -> int:
            length = int(element_length_func(*element))
            return int(np.searchsorted(bounds, length, side="right"))

        def joined(key: Any, group: Any) -> Any:
            at = int(key)
            if no_padding:
                return group.batch(sizes[at], drop_remainder)
            if not pad_to_bucket_boundary:
                return group.padded_batch(sizes[at], padded_shapes, padding_values, drop_remainder)
            if at == len(bounds):
                raise ValueError("An element is longer than the last bucket boundary.")

            def shapes_of(row: Any) -> list[Any]:
                leaves = zip(nest.flatten(row), _like(row, padded_shapes), strict=True)
                return [_bounded(leaf, shape, bounds[at] - 1) for leaf, shape in leaves]

            return group._padded(sizes[at], shapes_of, padding_values, drop_remainder)

        return self.group_by_window(bucket, joined, window_size_func=lambda key: sizes[int(key)])


def _like(element: Any, values: Any) -> list[Any]:
    """What belongs to each leaf of an element: a structure like it, or one for all."""
    if isinstance(element, dict) and isinstance(values, dict):
        return [x for key in sorted(element) for x in _like(element[key], values[key])]
    if isinstance(element, tuple) and isinstance(values, (tuple, list)):
        pairs = zip(element, values, strict=True)
        return [x for part, value in pairs for x in _like(part, value)]
    return [values] * len(nest.flatten(element))


def _bounded(leaf: Any, shape: Any, bound: int) -> list[int]:
    extents = [None] * np.ndim(leaf) if shape is None else shape
    return [bound if n in (None, -1) else n for n in extents]


def _pad(leaves: Any, shape: Any, value: Any) -> Any:
    """Joins leaves that are padded to a shape, or to the largest extents among them."""
    arrays = [array(leaf) for leaf in leaves]
    largest = [max(extents) for extents in zip(*(a.shape for a in arrays), strict=True)]
    wanted = [None] * len(largest) if shape is None else list(shape)
    to = [most if n in (None, -1) else int(n) for most, n in zip(largest, wanted, strict=True)]
    if any(most > n for most, n in zip(largest, to, strict=True)):
        raise ValueError(f"Attempted to pad to a smaller size than the input element: {to}")
    fill = 0 if value is None else np.asarray(convert_to_tensor(value))
    joined = np.full((len(arrays), *to), fill, arrays[0].dtype)
    for i, a in enumerate(arrays):
        joined[(i, *(slice(n) for n in a.shape))] = a
    return joined
