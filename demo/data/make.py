"""Writes digits.bin from the copy of the UCI optical digits inside scikit-learn.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install scikit-learn==1.9.1
    /tmp/venv/bin/python demo/data/make.py
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
pixels = digits.data.astype(np.uint8)
labels = digits.target.astype(np.uint8)
assert pixels.shape == (1797, 64) and (pixels == digits.data).all() and pixels.max() == 16
assert labels.shape == (1797,) and set(labels) == set(range(10))

records = np.concatenate([pixels, labels[:, None]], axis=1)
pathlib.Path(__file__).with_name("digits.bin").write_bytes(records.tobytes())
