"""Writes what Keras computes for the cases, with TensorFlow and Keras installed.

python make.py          # all of them
python make.py losses   # those of one table
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import cases
import keras
import numpy as np
import op_cases
import tensorflow as tf

HERE = Path(__file__).parent


def listed(values: Any) -> Any:
    """An array as its shape and numbers of seven digits."""
    array = np.asarray(values, np.float64)
    return [list(array.shape), [float(f"{number:.7g}") for number in array.reshape(-1)]]


def layer_case(make: str, call: str, inputs: list[Any]) -> dict[str, Any]:
    """Outputs, weights afterwards, and gradients of a sum of the outputs times cosines."""
    keras.backend.clear_session()
    layer = eval(make, {"L": keras.layers})
    tensors = [tf.constant(value) for value in inputs]
    names = dict(zip("xyz", tensors, strict=False)) | {"layer": layer}
    eval(call, names)
    values = [
        cases.weight(i, variable.name, tuple(variable.shape))
        for i, variable in enumerate(layer.weights)
    ]
    layer.set_weights(values)
    floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        outputs = eval(call, names)
        flat = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(outputs)]
        total = sum(
            tf.reduce_sum(leaf * np.cos(np.arange(np.prod(leaf.shape))).reshape(leaf.shape))
            for leaf in flat
        )
    sources = [*floats, *layer.trainable_weights]
    gradients = tape.gradient(total, sources)
    return {
        "make": make,
        "call": call,
        "paths": [variable.path.split("/", 1)[1] for variable in layer.weights],
        "outputs": [listed(leaf) for leaf in flat],
        "weights": [listed(value) for value in layer.get_weights()],
        "gradients": [None if g is None else listed(tf.convert_to_tensor(g)) for g in gradients],
    }


def loss_case(make: str, data: list[Any]) -> dict[str, Any]:
    """The loss with and without weights, and the gradient with respect to the predictions."""
    loss = eval(make, {"K": keras.losses})
    y_pred = tf.Variable(data[1])
    with tf.GradientTape() as tape:
        value = loss(data[0], y_pred)
    found = {"make": make, "value": listed(value), "name": loss.name}
    found["gradient"] = listed(tape.gradient(value, y_pred))
    if "axis=0" not in make and "Dice" not in make and "Tversky" not in make:
        found["weighted"] = listed(loss(data[0], y_pred, sample_weight=cases._WEIGHTS))
    return found


def metric_case(make: str, data: list[Any]) -> dict[str, Any]:
    """The result after two batches, with weights, and after the state was reset."""
    metric = eval(make, {"K": keras.metrics})
    metric.update_state(*data)
    # Of counts it is the state itself, which goes on changing.
    once = np.array(metric.result())
    metric.update_state(data[0][:2], data[1][:2])
    twice = np.array(metric.result())
    metric.reset_state()
    metric.update_state(*data, sample_weight=cases._WEIGHTS)
    return {
        "make": make,
        "name": metric.name,
        "values": [listed(value) for value in (once, twice, metric.result())],
    }


def fit_case(layers: str, compiled: str, fitted: str) -> dict[str, Any]:
    """The history of three epochs, and the sums of the weights afterwards."""
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
    return {
        "layers": layers,
        "history": {name: listed(values) for name, values in history.history.items()},
        "sums": [float(value.sum()) for value in model.get_weights()],
        "predictions": listed(model.predict(x[:3], verbose=0)),
    }


def op_case(expression: str, inputs: list[Any]) -> dict[str, Any]:
    """Values and dtypes."""
    names = dict(zip("xyz", map(tf.constant, inputs), strict=False))
    outputs = eval(expression, {"O": keras.ops} | names)
    flat = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(outputs)]
    return {
        "op": expression,
        "outputs": [listed(leaf) for leaf in flat],
        "dtypes": [leaf.dtype.name for leaf in flat],
    }


if __name__ == "__main__":
    for name, make, table in (
        ("layers", layer_case, cases.LAYERS),
        ("losses", loss_case, cases.LOSSES),
        ("metrics", metric_case, cases.METRICS),
        ("fits", fit_case, cases.FITS),
        ("ops", op_case, op_cases.OPS),
    ):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        rows = ",\n".join(json.dumps(make(*row)) for row in table)
        (HERE / f"{name}.json").write_text(f"[\n{rows}\n]\n")
        print(name, len(table))
