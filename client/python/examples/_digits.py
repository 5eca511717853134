"""The handwritten digits that the examples learn from."""

import pathlib

import numpy as np

FILE = pathlib.Path(__file__).resolve().parents[3] / "demo" / "data" / "digits.bin"


def load(path=None, seed=0):
    """Returns images and labels to train with, and images and labels held out.

    Images have the shape [count, height, width, 1] and numbers from 0 to 1.

    Args:
        path: An .npz file as Keras ships MNIST in (x_train, y_train, x_test, y_test); the 1,797
            digits of 8 x 8 pixels in this repository by default, of which a fifth is held out.
        seed: Seed of the split.
    """
    if path is not None:
        with np.load(path) as found:
            parts = [found[name] for name in ("x_train", "y_train", "x_test", "y_test")]
        images = [(part / 255.0).astype(np.float32)[..., None] for part in parts[::2]]
        return images[0], parts[1].astype(np.int64), images[1], parts[3].astype(np.int64)
    rows = np.fromfile(FILE, np.uint8).reshape(-1, 65)
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    images = (rows[:, :64] / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = rows[:, 64].astype(np.int64)
    cut = len(rows) * 4 // 5
    return images[:cut], labels[:cut], images[cut:], labels[cut:]
