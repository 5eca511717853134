"""Computes variables.json: what expressions that change a variable leave in it in TensorFlow.

python -m venv /tmp/venv && /tmp/venv/bin/pip install tensorflow-cpu==2.21.0
/tmp/venv/bin/python client/python/tests/make_variables.py ["v[0].assign(tf.ones([3]))"...]

Recomputes every expression that the file names, and those that are given, which it adds.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

PATH = Path(__file__).parent / "variables.json"


def evaluate(expression):
    v = tf.Variable(np.arange(1, 13, dtype=np.float32).reshape(4, 3))
    eval(expression, {"tf": tf, "v": v})
    return v.numpy().tolist()


def main(expressions):
    known = list(json.loads(PATH.read_text())) if PATH.exists() else []
    lines = [
        f"  {json.dumps(expression)}: {json.dumps(evaluate(expression))}"
        for expression in dict.fromkeys(known + expressions)
    ]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
