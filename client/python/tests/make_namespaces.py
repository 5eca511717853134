"""Computes namespaces.json: what expressions give in TensorFlow, and their gradients.

python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0
/tmp/venv/bin/python client/python/tests/make_namespaces.py ["tf.new(x)"...]

Recomputes every expression that the file names, and those that are given, which it adds.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

PATH = Path(__file__).parent / "namespaces.json"


def numbers(tensor):
    values = np.asarray(tf.convert_to_tensor(tensor)).reshape(-1).tolist()
    return [None if value != value else value for value in values]


def evaluate(expression):
    x = tf.Variable(np.array([[0.3, -1.2, 0.7], [1.5, 0.25, -0.4]], np.float32))
    y = tf.Variable(np.array([[-0.6, 0.9, 1.1], [0.2, -1.4, 2.0]], np.float32))
    image = tf.Variable(np.sin(np.arange(50, dtype=np.float32)).reshape(1, 5, 5, 2))
    z = tf.constant(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    with tf.GradientTape() as tape:
        result = eval(expression, {"np": np, "tf": tf, "x": x, "y": y, "z": z, "img": image})
    record = {"dtype": result.dtype.name, "shape": list(result.shape), "value": numbers(result)}
    if result.dtype.is_floating:
        found = tape.gradient(result, [x, y, image])
        record["gradients"] = [
            None if gradient is None else numbers(gradient) for gradient in found
        ]
    return record


def main(expressions):
    known = list(json.loads(PATH.read_text()))
    records = {
        expression: evaluate(expression) for expression in dict.fromkeys(known + expressions)
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(record)}" for name, record in records.items()]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
