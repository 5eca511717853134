"""Layers, losses, metrics and training against Keras' own numbers; see `keras_golden/make.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as tf

GOLDEN = Path(__file__).parent / "keras_golden"
sys.path.insert(0, str(GOLDEN))
import cases  # noqa: E402
import op_cases  # noqa: E402

keras = tf.keras


def rows(name: str, table: list[Any]) -> list[Any]:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert len(golden) == len(table), "run make.py again"
    return [
        pytest.param(row, expected, id=f"{name}-{i}-{row[0][:40]}")
        for i, (row, expected) in enumerate(zip(table, golden, strict=True))
    ]


def assert_close(found: Any, expected: Any, rtol: float = 2e-5, atol: float = 2e-6) -> None:
    shape, numbers = expected
    array = np.asarray(found, np.float64)
    assert list(array.shape) == shape
    np.testing.assert_allclose(array.reshape(-1), np.array(numbers, float), rtol, atol)


@pytest.mark.parametrize(("row", "expected"), rows("layers", cases.LAYERS))
def test_layers(row: Any, expected: Any) -> None:
    make, call, inputs = row
    assert (expected["make"], expected["call"]) == (make, call)
    layer = eval(make, {"L": keras.layers})
    tensors = [tf.constant(value) for value in inputs]
    names = dict(zip("xyz", tensors, strict=False)) | {"layer": layer}
    eval(call, names)
    layer.set_weights(
        [cases.weight(i, v.name, tuple(v.shape)) for i, v in enumerate(layer.weights)]
    )
    floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        flat = tf.nest.flatten(eval(call, names))
        total = tf.add_n([
            tf.reduce_sum(leaf * np.cos(np.arange(np.prod(leaf.shape))).reshape(leaf.shape))
            for leaf in flat
        ])  # fmt: skip
    gradients = tape.gradient(total, [*floats, *layer.trainable_weights])
    for found, numbers in zip(flat, expected["outputs"], strict=True):
        assert_close(found, numbers)
    for found, numbers in zip(layer.get_weights(), expected["weights"], strict=True):
        assert_close(found, numbers)
    assert [g is None for g in gradients] == [g is None for g in expected["gradients"]]
    for found, numbers in zip(gradients, expected["gradients"], strict=True):
        if found is not None:
            assert_close(tf.convert_to_tensor(found), numbers, atol=1e-5)
    own = [variable.path.split("/", 1)[1] for variable in layer.weights]
    assert [numbered(p) for p in own] == [numbered(p) for p in expected["paths"]]


def numbered(path: str) -> list[str]:
    """The parts of a path without the numbers that tell layers of one kind apart."""
    return [part.rstrip("0123456789").rstrip("_") for part in path.split("/")]


@pytest.mark.parametrize(("row", "expected"), rows("losses", cases.LOSSES))
def test_losses(row: Any, expected: Any) -> None:
    make, data = row
    loss = eval(make, {"K": keras.losses})
    assert (make, loss.name) == (expected["make"], expected["name"])
    y_pred = tf.Variable(data[1])
    with tf.GradientTape() as tape:
        value = loss(data[0], y_pred)
    assert_close(value, expected["value"])
    assert_close(tape.gradient(value, y_pred), expected["gradient"])
    if "weighted" in expected:
        assert_close(loss(data[0], y_pred, sample_weight=cases._WEIGHTS), expected["weighted"])


@pytest.mark.parametrize(("row", "expected"), rows("metrics", cases.METRICS))
def test_metrics(row: Any, expected: Any) -> None:
    make, data = row
    metric = eval(make, {"K": keras.metrics})
    # Metrics without a name of their own count themselves.
    assert (make, metric.name.rstrip("_0123456789")) == (
        expected["make"],
        expected["name"].rstrip("_0123456789"),
    )
    metric.update_state(*data)
    found = [metric.result()]
    metric.update_state(data[0][:2], data[1][:2])
    found.append(metric.result())
    metric.reset_state()
    metric.update_state(*data, sample_weight=cases._WEIGHTS)
    found.append(metric.result())
    for value, numbers in zip(found, expected["values"], strict=True):
        assert_close(value, numbers)


@pytest.mark.parametrize(("row", "expected"), rows("fits", cases.FITS))
def test_training(row: Any, expected: Any) -> None:
    layers, compiled, fitted = row
    x, y = cases.wave(16, 5), np.arange(16) % 3
    names = {"L": keras.layers, "keras": keras, "np": np, "x": x, "y": y}
    model = keras.Sequential([keras.Input((5,)), *eval(layers, names)])
    model.set_weights(
        [cases.weight(i, v.name, tuple(v.shape)) for i, v in enumerate(model.weights)]
    )
    eval(f"model.compile('sgd', {compiled})", names | {"model": model})
    history = eval(
        f"model.fit(x, y, 4, 3, shuffle=False, verbose=0, {fitted})", names | {"model": model}
    )
    assert set(history.history) == set(expected["history"])
    for name, numbers in expected["history"].items():
        assert_close(history.history[name], numbers)
    sums = [float(value.sum()) for value in model.get_weights()]
    assert sums == pytest.approx(expected["sums"], rel=1e-4, abs=1e-5)
    assert_close(model.predict(x[:3], verbose=0), expected["predictions"], rtol=1e-4)


# Counts of bits that nobody relies on: places and numbers of elements are int32 or int64.
_PLACES = {"int32", "int64"}


@pytest.mark.parametrize(("row", "expected"), rows("ops", op_cases.OPS))
def test_ops(row: Any, expected: Any) -> None:
    expression, inputs = row
    names = dict(zip("xyz", map(tf.constant, inputs), strict=False))
    found = tf.nest.flatten(eval(expression, {"O": keras.ops} | names))
    assert expression == expected["op"]
    assert len(found) == len(expected["outputs"])
    for leaf, numbers, dtype in zip(found, expected["outputs"], expected["dtypes"], strict=True):
        tensor = tf.convert_to_tensor(leaf)
        assert tensor.dtype.name == dtype or {tensor.dtype.name, dtype} == _PLACES
        assert_close(tensor, numbers)
