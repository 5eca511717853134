"""`tf.data.Dataset`, with what TensorFlow's gives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import gradtape as tf

Dataset = tf.data.Dataset


def numbers(dataset: Any) -> list[Any]:
    return [element.tolist() for element in dataset.as_numpy_iterator()]


def test_elements_are_slices_and_batches_are_tensors() -> None:
    x, y = np.arange(10, dtype=np.float32).reshape(5, 2), np.arange(5)
    dataset = Dataset.from_tensor_slices({"x": x, "y": y}).batch(2)
    batches = list(dataset)
    assert len(dataset) == len(batches) == 3
    assert all(isinstance(batch["x"], tf.Tensor) for batch in batches)
    assert [tuple(batch["x"].shape) for batch in batches] == [(2, 2), (2, 2), (1, 2)]
    assert np.array_equal(np.concatenate([batch["y"] for batch in batches]), y)
    assert len(Dataset.range(5).batch(2, drop_remainder=True)) == 2
    with pytest.raises(ValueError, match="not compatible"):
        Dataset.from_tensor_slices((x, y[:2]))


def test_what_is_made_of_datasets() -> None:
    five = Dataset.range(5)
    assert numbers(five.map(lambda n: n * n)) == [0, 1, 4, 9, 16]
    assert numbers(five.filter(lambda n: n % 2 == 0)) == [0, 2, 4]
    assert numbers(five.take(2).concatenate(five.skip(3))) == [0, 1, 3, 4]
    assert numbers(five.take(2).repeat(2)) == [0, 1, 0, 1]
    assert numbers(five.shard(2, 1)) == [1, 3]
    assert numbers(five.take_while(lambda n: n < 3)) == [0, 1, 2]
    assert numbers(five.batch(2).unbatch()) == [0, 1, 2, 3, 4]
    assert numbers(five.flat_map(lambda n: Dataset.range(int(n)))) == [0, 0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert [(int(a), int(b)) for a, b in Dataset.zip((five, five.skip(3)))] == [(0, 3), (1, 4)]
    assert [(int(i), int(n)) for i, n in five.skip(3).enumerate()] == [(0, 3), (1, 4)]
    assert int(five.reduce(np.int64(0), lambda total, n: total + n)) == 10
    pairs = Dataset.from_tensor_slices((np.arange(3.0), np.arange(3.0)))
    assert numbers(pairs.map(lambda a, b: a + b)) == [0.0, 2.0, 4.0]
    assert numbers(five.apply(lambda d: d.prefetch(tf.data.AUTOTUNE).take(1))) == [0]


def test_lengths() -> None:
    five = Dataset.range(5)
    assert int(five.repeat().cardinality()) == tf.data.INFINITE_CARDINALITY
    assert int(five.filter(lambda n: True).cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert [len(five.skip(2)), len(five.take(9)), len(five.repeat(3)), len(five.map(abs))] == [
        3,
        5,
        15,
        5,
    ]
    assert len(Dataset.zip((five, five.repeat()))) == 5
    assert [int(n) for n in itertools.islice(five.repeat(), 7)] == [0, 1, 2, 3, 4, 0, 1]
    with pytest.raises(TypeError):
        len(five.repeat())


def test_shuffling_keeps_all_elements_and_follows_its_seed() -> None:
    shuffled = Dataset.range(100).shuffle(30, seed=3)
    first, second = numbers(shuffled), numbers(shuffled)
    assert sorted(first) == list(range(100)) == sorted(second)
    assert first != second != list(range(100))
    assert numbers(Dataset.range(100).shuffle(30, seed=3)) == first
    # An element cannot come before the buffer reached it.
    assert all(element <= place + 30 for place, element in enumerate(first))
    same = Dataset.range(100).shuffle(100, seed=3, reshuffle_each_iteration=False)
    assert numbers(same) == numbers(same)


def test_a_cache_goes_through_its_source_once() -> None:
    passes = []

    def generator() -> Any:
        passes.append(1)
        yield from ((1.0, 2), (3.0, 4))

    source = Dataset.from_generator(generator, output_types=(tf.float32, tf.int32))
    cached = source.cache()
    assert [list(cached), list(cached)] and len(passes) == 1
    (a, b), _ = cached
    assert (a.dtype, b.dtype) == (tf.float32, tf.int32)


def test_what_elements_are_like() -> None:
    dataset = Dataset.from_tensor_slices((np.ones((3, 2), np.float32), np.arange(3)))
    x, y = dataset.element_spec
    assert (x, y) == (tf.TensorSpec((2,)), tf.TensorSpec((), tf.int64))
    assert tf.TensorSpec((None, 2)).is_compatible_with(tf.ones((5, 2)))
    assert not tf.TensorSpec((None, 2)).is_compatible_with(tf.ones((5, 3)))

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def total(x: Any) -> Any:
        return tf.reduce_sum(x)

    assert float(total(tf.ones((5, 2)))) == 10.0
