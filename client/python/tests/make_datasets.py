"""Computes datasets.json: what expressions with `tf.data` give in TensorFlow.

python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0
/tmp/venv/bin/python client/python/tests/make_datasets.py ["Dataset.range(3)"...]

Recomputes every expression that the file names, and those that are given, which it adds.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

PATH = Path(__file__).parent / "datasets.json"


def plain(element):
    """An element without arrays, windows and tuples."""
    if isinstance(element, dict):
        return {name: plain(part) for name, part in element.items()}
    if isinstance(element, (tf.data.Dataset, tuple, list)):
        return [plain(part) for part in element]
    return np.asarray(element).tolist()


def main(expressions):
    known = list(json.loads(PATH.read_text())) if PATH.exists() else []
    names = {"np": np, "tf": tf, "Dataset": tf.data.Dataset}
    lines = [
        f"  {json.dumps(expression)}: {json.dumps(plain(eval(expression, names)))}"
        for expression in dict.fromkeys(known + expressions)
    ]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
