"""Older names of what `tf.data` has (`tf.data.experimental`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradtape.data import (
    AUTOTUNE,
    INFINITE_CARDINALITY,
    UNKNOWN_CARDINALITY,
    Dataset,
    ThreadingOptions,
)

choose_from_datasets = Dataset.choose_from_datasets
sample_from_datasets = Dataset.sample_from_datasets
Counter = Dataset.counter
RandomDataset = Dataset.random


def assert_cardinality(expected_cardinality: int) -> Callable[[Dataset], Dataset]:
    """Returns what tells a dataset how many elements it has, for `Dataset.apply`."""
    return lambda dataset: Dataset(dataset._make, int(expected_cardinality))


def cardinality(dataset: Dataset) -> Any:
    """Returns the number of elements; negative where there is no end or nobody knows."""
    return dataset.cardinality()


def from_list(elements: Sequence[Any], name: str | None = None) -> Dataset:
    """The elements of a list."""
    return Dataset.from_generator(lambda: elements).apply(assert_cardinality(len(elements)))


def get_single_element(dataset: Dataset) -> Any:
    """Returns the only element."""
    return dataset.get_single_element()


__all__ = [
    "AUTOTUNE", "INFINITE_CARDINALITY", "UNKNOWN_CARDINALITY", "Counter", "RandomDataset",
    "ThreadingOptions", "assert_cardinality", "cardinality", "choose_from_datasets", "from_list",
    "get_single_element", "sample_from_datasets",
]  # fmt: skip
