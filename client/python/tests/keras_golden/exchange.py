"""Lets Keras read models that this package wrote, and the other way round; both must be installed.

python exchange.py           # compares what both predict
python exchange.py --write   # and writes the models of Keras and their predictions for the tests
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import cases
import keras
import model_cases
import numpy as np

import gradtape

HERE = Path(__file__).parent


def filled(library: Any, make: str) -> Any:
    """A model whose weights are the same in both."""
    library.backend.clear_session()
    names = {"K": library, "L": library.layers, "np": np}
    model = eval(make, names)
    model.set_weights(
        [cases.weight(i, v.name, tuple(v.shape)).astype(v.dtype if "int" in str(v.dtype) else "f")
         for i, v in enumerate(model.weights)]
    )  # fmt: skip
    return model


def subclass(library: Any) -> Any:
    """A model whose layers are attributes, in lists and in dictionaries."""
    layers = library.layers

    class Block(layers.Layer):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.up, self.down = layers.Dense(4 * width, activation="gelu"), layers.Dense(width)
            self.norm = layers.LayerNormalization()

        def call(self, x: Any) -> Any:
            return self.norm(x + self.down(self.up(x)))

    class Net(library.Model):
        def __init__(self) -> None:
            super().__init__()
            self.zeta, self.blocks = layers.Dense(6), [Block(6), Block(6)]
            self.named = {"a": layers.Dense(6), "b": layers.Dense(5)}
            self.head = library.Sequential([layers.Dense(3), layers.Dense(2)])
            self.attention = layers.MultiHeadAttention(2, 3)

        def build(self, shape: Any) -> None:
            self.bias = self.add_weight(shape=(6,), initializer="ones", name="bias")
            super().build(shape)

        def call(self, x: Any) -> Any:
            x = self.zeta(x) + self.bias
            for block in self.blocks:
                x = block(x)
            return self.head(self.named["b"](self.named["a"](self.attention(x, x))))

    return Net()


def compare_subclasses(folder: str) -> None:
    """Lets each read the other's weights of a subclassed model."""
    x = cases.wave(2, 4, 3)
    for writer, reader in ((keras, gradtape.keras), (gradtape.keras, keras)):
        one, other = subclass(writer), subclass(reader)
        expected = np.asarray(one(x))
        one.save_weights(f"{folder}/subclass.weights.h5")
        other(x)
        other.load_weights(f"{folder}/subclass.weights.h5")
        np.testing.assert_allclose(np.asarray(other(x)), expected, 2e-5, 2e-6)
    print("the weights of a subclass are the same in both")


def main() -> None:
    """Compares all models."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, shape) in model_cases.MODELS.items():
            x = cases.wave(2, *shape)
            for writer, reader in ((keras, gradtape.keras), (gradtape.keras, keras)):
                path = f"{folder}/{name}.keras"
                model = filled(writer, make)
                expected = np.asarray(model(x))
                model.save(path)
                found = np.asarray(reader.models.load_model(path)(x))
                np.testing.assert_allclose(found, expected, 2e-5, 2e-6)
                model.save_weights(f"{folder}/{name}.weights.h5")
                again = filled(reader, make)
                again.load_weights(f"{folder}/{name}.weights.h5")
                np.testing.assert_allclose(np.asarray(again(x)), expected, 2e-5, 2e-6)
                if writer is keras and sys.argv[1:] == ["--write"]:
                    (HERE / "models").mkdir(exist_ok=True)
                    os.replace(path, HERE / "models" / f"{name}.keras")
                    np.save(HERE / "models" / f"{name}.npy", expected)
            print(name, "is the same in both")
        compare_subclasses(folder)


if __name__ == "__main__":
    main()
