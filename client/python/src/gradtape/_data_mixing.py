"""The part of `Dataset` that mixes datasets and draws from them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradtape import dtypes
from gradtape._data_elements import Sequence, as_nest, call, tensors
from gradtape.tensor import constant


class Mixing(Sequence):
    """Methods that take elements of several datasets, or that remember what was before."""

    @classmethod
    def random(
        cls,
        seed: int | None = None,
        rerandomize_each_iteration: bool | None = None,
        name: str | None = None,
    ) -> Any:
        """Random int64 numbers from 0 up to 2^32, without end.

        Args:
            seed: Seed of the numbers.
            rerandomize_each_iteration: Whether each pass has other ones.
            name: Ignored.
        """
        choices = _Choices(seed, bool(rerandomize_each_iteration))

        def make() -> Iterator[Any]:
            choose = choices.next()
            while True:
                yield choose.integers(2**32, dtype=np.int64)

        return cls(make, -1)

    @classmethod
    def counter(
        cls, start: int = 0, step: int = 1, dtype: Any = dtypes.int64, name: str | None = None
    ) -> Any:
        """Numbers from `start` on, without end."""
        kind = dtypes.as_dtype(dtype).as_numpy_dtype.type
        return cls(lambda: (kind(number) for number in itertools.count(start, step)), -1)

    @classmethod
    def sample_from_datasets(
        cls,
        datasets: Any,
        weights: Any = None,
        seed: int | None = None,
        stop_on_empty_dataset: bool = False,
        rerandomize_each_iteration: bool | None = None,
    ) -> Any:
        """Takes each element from a dataset that is chosen at random.

        Args:
            datasets: The datasets.
            weights: How likely each of them is; all the same by default.
            seed: Seed of the choices.
            stop_on_empty_dataset: Whether the end of one of them is the end.
            rerandomize_each_iteration: Whether each pass makes other choices; it does by default.
        """
        given = list(datasets)
        shares = np.ones(len(given)) if weights is None else np.asarray(weights, float)
        if len(given) != len(shares) or not given or shares.min() < 0 or shares.sum() <= 0:
            raise ValueError("`weights` must have a number that is not negative for each dataset")
        choices = _Choices(seed, rerandomize_each_iteration is not False)

        def make() -> Iterator[Any]:
            choose, left = choices.next(), shares.copy()
            iterators = [dataset._make() for dataset in given]
            while left.sum() > 0:
                at = int(choose.choice(len(given), p=left / left.sum()))
                try:
                    yield next(iterators[at])
                except StopIteration:
                    if stop_on_empty_dataset:
                        return
                    left[at] = 0.0

        return cls(make, -2)

    @classmethod
    def choose_from_datasets(
        cls, datasets: Any, choice_dataset: Any, stop_on_empty_dataset: bool = True
    ) -> Any:
        """Takes each element from the dataset whose number another one gives.

        Args:
            datasets: The datasets.
            choice_dataset: Numbers of datasets.
            stop_on_empty_dataset: Whether the end of one that is chosen is the end, or is skipped.
        """
        given = list(datasets)

        def make() -> Iterator[Any]:
            iterators = [dataset._make() for dataset in given]
            for choice in choice_dataset._make():
                at = int(choice)
                if not 0 <= at < len(given):
                    raise ValueError(f"There is no dataset {at} among {len(given)}")
                try:
                    yield next(iterators[at])
                except StopIteration:
                    if stop_on_empty_dataset:
                        return

        return cls(make, -2)

    def interleave(
        self,
        map_func: Callable[..., Any],
        cycle_length: int | None = None,
        block_length: int | None = None,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
        name: str | None = None,
    ) -> Any:
        """Takes elements in turn from the datasets that a function makes of each element.

        Args:
            map_func: Returns a dataset.
            cycle_length: How many datasets take turns; as many as there are processors by default.
            block_length: Elements at a turn, 1 by default.
            num_parallel_calls: Ignored.
            deterministic: Ignored: the order is always the same.
            name: Ignored.
        """
        cycle = os.cpu_count() or 1 if cycle_length in (None, -1) else int(cycle_length or 0)
        block = 1 if block_length is None else int(block_length)
        if cycle < 1 or block < 1:
            raise ValueError("cycle_length and block_length must be positive")

        def make() -> Iterator[Any]:
            inputs = self._make()
            slots: list[Iterator[Any] | None] = [None] * cycle
            ended = False
            while not ended or any(slot is not None for slot in slots):
                for i in range(cycle):
                    if slots[i] is None and not ended:
                        try:
                            slots[i] = call(map_func, next(inputs))._make()
                        except StopIteration:
                            ended = True
                    iterator = slots[i]
                    if iterator is None:
                        continue
                    taken = 0
                    for element in itertools.islice(iterator, block):
                        taken += 1
                        yield element
                    if taken < block:
                        slots[i] = None

        return type(self)(make, -2)

    def scan(
        self,
        initial_state: Any,
        scan_func: Callable[[Any, Any], tuple[Any, Any]],
        name: str | None = None,
    ) -> Any:
        """What a function makes of a state and an element; it returns a new state and that."""

        def make() -> Iterator[Any]:
            state = tensors(as_nest(initial_state))
            for element in self._make():
                state, output = scan_func(state, tensors(element))
                yield as_nest(output)

        return type(self)(make, self._length)

    def unique(self, name: str | None = None) -> Any:
        """Leaves out elements that came before. Tensors are fetched."""

        def make() -> Iterator[Any]:
            seen = set()
            for element in self._make():
                found = np.asarray(element)
                key = (found.dtype.str, found.shape, found.tobytes())
                if key not in seen:
                    seen.add(key)
                    yield element

        return type(self)(make, -2)

    def rejection_resample(
        self,
        class_func: Callable[..., Any],
        target_dist: Any,
        initial_dist: Any = None,
        seed: int | None = None,
        name: str | None = None,
    ) -> Any:
        """Leaves out elements at random, so that classes come as often as wanted.

        Args:
            class_func: Returns the class of an element, an integer, which is fetched.
            target_dist: Share of each class in the result.
            initial_dist: Share of each class here; it is counted on the way by default.
            seed: Seed of the choices.
            name: Ignored.

        Returns:
            A dataset of pairs of a class and an element.
        """
        wanted = np.asarray(target_dist, float)
        choices = _Choices(seed, True)

        def make() -> Iterator[Any]:
            choose = choices.next()
            counts = np.zeros_like(wanted)
            given = None if initial_dist is None else np.asarray(initial_dist, float)
            for element in self._make():
                at = int(call(class_func, element))
                counts[at] += 1
                shares = counts if given is None else given
                ratios = np.divide(wanted, shares, out=np.zeros_like(wanted), where=shares > 0)
                if choose.random() * ratios.max() < ratios[at]:
                    yield constant(np.int32(at)), element

        return type(self)(make, -2)


class _Choices:
    """Generators of random choices, one for each pass through a dataset."""

    def __init__(self, seed: int | None, other_each_time: bool) -> None:
        entropy = np.random.randint(2**31) if seed is None else seed
        self._seeds = np.random.SeedSequence(entropy)
        self._first = None if other_each_time else self._seeds.spawn(1)[0]

    def next(self) -> np.random.Generator:
        return np.random.default_rng(self._first or self._seeds.spawn(1)[0])
