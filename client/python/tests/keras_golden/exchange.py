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


if __name__ == "__main__":
    main()
