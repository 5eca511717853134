"""`tf.data.Dataset`, with what TensorFlow's gives."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as tf

Dataset = tf.data.Dataset
EXPECTED = json.loads((Path(__file__).parent / "datasets.json").read_text())


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


@pytest.mark.parametrize("expression", EXPECTED)
def test_elements_are_tensorflows(expression: str) -> None:
    dataset = eval(expression, {"np": np, "tf": tf, "Dataset": Dataset})
    assert plain(dataset) == EXPECTED[expression]
    assert plain(dataset) == EXPECTED[expression]  # Each pass starts anew.


def plain(element: Any) -> Any:
    if isinstance(element, dict):
        return {name: plain(part) for name, part in element.items()}
    if isinstance(element, (Dataset, tuple, list)):
        return [plain(part) for part in element]
    return np.asarray(element).tolist()


def test_samples_come_as_often_as_their_weights_say_and_the_same_for_a_seed() -> None:
    def drawn(seed: int) -> list[int]:
        parts = [Dataset.from_tensors(i).repeat() for i in range(3)]
        mixed = Dataset.sample_from_datasets(
            parts, [0.5, 0.2, 0.3], seed, rerandomize_each_iteration=False
        )
        return numbers(mixed.take(2_000))

    counts = np.bincount(drawn(3))
    # Six standard deviations of a binomial number at 1 / 2 are 134.
    assert np.abs(counts - [1_000, 400, 600]).max() < 134
    assert drawn(3) == drawn(3) != drawn(4)


def test_resampling_changes_the_shares_of_classes() -> None:
    source = Dataset.range(1_600).map(lambda n: n % 4 // 3)  # Three zeros to each one.
    for initial in ([0.75, 0.25], None):
        pairs = source.rejection_resample(lambda n: n, [0.5, 0.5], initial, seed=1)
        classes = np.array([int(c) for c, _ in pairs])
        # All of 400 ones are left, and as many zeros.
        assert 680 < len(classes) < 920
        assert abs(classes.mean() - 0.5) < 0.1


def test_random_numbers_follow_their_seed() -> None:
    assert numbers(Dataset.random(seed=4).take(3)) == numbers(Dataset.random(seed=4).take(3))
    other = Dataset.random(seed=4, rerandomize_each_iteration=True).take(3)
    assert numbers(other) != numbers(other)
    assert all(0 <= n < 2**32 for n in numbers(Dataset.random().take(9)))


def test_a_cache_in_a_file_holds_what_was_gone_through_once(tmp_path: Path) -> None:
    calls = []

    def made() -> Any:
        calls.append(1)
        for i in range(3):
            yield {"a": np.int32(i), "b": (np.full([i], 0.5), tf.constant([i], tf.bfloat16))}

    path = tmp_path / "cache"
    cached = Dataset.from_generator(made).cache(str(path))
    next(iter(cached))
    assert not path.exists()
    first = [plain(element) for element in cached]
    assert path.exists()
    assert [plain(e) for e in Dataset.from_generator(made).cache(str(path))] == first
    assert len(calls) == 2
    element = next(iter(cached))
    assert element["b"][1].dtype is tf.bfloat16
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]


def test_an_iterator_has_a_next_and_an_end() -> None:
    elements = iter(Dataset.range(2))
    assert [int(elements.get_next()), int(next(elements))] == [0, 1]
    with pytest.raises(tf.errors.OutOfRangeError):
        elements.get_next()
    assert isinstance(elements, tf.data.Iterator)
    options = tf.data.Options()
    options.deterministic = False
    assert Dataset.range(2).with_options(options).options() is options
