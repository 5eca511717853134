"""Configurations of objects, and models in files: our own, and those that Keras wrote."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as tf

GOLDEN = Path(__file__).parent / "keras_golden"
sys.path.insert(0, str(GOLDEN))
import cases  # noqa: E402
import model_cases  # noqa: E402

keras, layers = tf.keras, tf.keras.layers


@pytest.mark.parametrize("name", model_cases.MODELS)
def test_a_model_that_keras_wrote_predicts_what_it_predicts_there(name: str) -> None:
    model = keras.models.load_model(GOLDEN / "models" / f"{name}.keras")
    expected = np.load(GOLDEN / "models" / f"{name}.npy")
    _, shape = model_cases.MODELS[name]
    np.testing.assert_allclose(model(cases.wave(2, *shape)), expected, 2e-5, 2e-6)


@pytest.mark.parametrize("name", model_cases.MODELS)
def test_a_model_comes_back_from_a_file_and_from_json(name: str, tmp_path: Path) -> None:
    make, shape = model_cases.MODELS[name]
    model = eval(make, {"K": keras, "L": layers})
    x = cases.wave(2, *shape)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    np.testing.assert_array_equal(again(x), model(x))
    model.save_weights(tmp_path / "a.weights.h5")
    new = keras.models.model_from_json(model.to_json())
    assert any(np.abs(np.asarray(new(x)) - np.asarray(model(x))).reshape(-1) > 1e-3)
    new.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(new(x), model(x))


# Each row of the tables of layers, losses and metrics, made again of its configuration.
REVIVED = [
    *[(make, "L", layers) for make, _, _ in cases.LAYERS if "lambda" not in make],
    *[(make, "K", keras.losses) for make, _ in cases.LOSSES],
    *[(make, "K", keras.metrics) for make, _ in cases.METRICS],
]


@pytest.mark.parametrize("row", REVIVED, ids=lambda row: row[0][:50])
def test_a_configuration_makes_the_same_again(row: Any) -> None:
    make, name, module = row
    first = eval(make, {name: module})
    config = json.loads(json.dumps(module.serialize(first)))
    second = module.deserialize(config)
    assert type(second) is type(first)
    assert second.get_config() == first.get_config()


class Doubled(layers.Layer):
    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.inner = layers.Dense(units)
        self.others = [layers.Dense(units), {"a": layers.Dense(units)}]

    def call(self, x: Any) -> Any:
        return self.others[1]["a"](self.others[0](self.inner(x)))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("mine")
class Subclass(keras.Model):
    def __init__(self, units: int = 2) -> None:
        super().__init__()
        self.first, self.last = Doubled(units), layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.last(self.first(x))


def test_a_model_of_ones_own_classes_comes_back_compiled(tmp_path: Path) -> None:
    x = cases.wave(4, 3)
    model = Subclass(units=3)
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9),
        loss=keras.losses.Huber(0.5), metrics=["mae", keras.metrics.MeanSquaredError()],
    )  # fmt: skip
    model.fit(x, x[:, :1], verbose=0)
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        config = json.loads(archive.read("config.json"))
    assert (config["registered_name"], config["config"]) == ("mine>Subclass", {"units": 3})
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(x), model(x))
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert again.evaluate(x, x[:, :1], verbose=0) == pytest.approx(
        model.evaluate(x, x[:, :1], verbose=0)
    )
    plain = keras.models.load_model(tmp_path / "m.keras", compile=False)
    assert not plain.compiled


def test_layers_and_functions_of_ones_own_are_given_by_name(tmp_path: Path) -> None:
    class Local(layers.Dense):
        pass

    def triple(x: Any) -> Any:
        return x * 3.0

    model = keras.Sequential([keras.Input((2,)), Local(2, activation=triple)])
    path = tmp_path / "m.keras"
    model.save(path)
    known = {"Local": Local, "triple": triple}
    # The class is found among those of this module, but nothing is called that nobody gave.
    with pytest.raises((TypeError, ValueError), match="Could not locate"):
        keras.models.load_model(path)
    x = cases.wave(2, 2)
    np.testing.assert_array_equal(keras.models.load_model(path, known)(x), model(x))
    with keras.utils.custom_object_scope(known):
        assert isinstance(keras.models.load_model(path).layers[0], Local)
    assert keras.saving.get_registered_object("Local") is None
    assert keras.saving.get_registered_name(Subclass) == "mine>Subclass"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"module": "subprocess", "class_name": "Popen", "config": {"args": ["true"]}}, "locate"),
        ({"module": "keras", "class_name": "function", "config": "exec"}, "locate"),
        ({"class_name": "__lambda__", "config": {"value": ["4w==", None, None]}}, "lambda"),
        ({"module": "keras.layers", "class_name": "NoSuchLayer", "config": {}}, "locate"),
    ],
)
def test_a_file_runs_no_code(config: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        keras.saving.deserialize_keras_object(config)


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    x = keras.Input((2,))
    model = keras.Model(x, layers.Lambda(lambda t: t + 1.0)(x))
    with pytest.raises(ValueError, match="lambda"):
        model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="not a layer"):
        keras.Model(x, keras.ops.sum(x, axis=1)).to_json()
    with pytest.raises(ValueError, match="keras"):
        model.save(tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == []
    dense = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    dense.save(tmp_path / "d.keras")
    with pytest.raises(FileExistsError):
        dense.save(tmp_path / "d.keras", overwrite=False)
    with pytest.raises(ValueError, match="zip"):
        keras.models.load_model(tmp_path / "missing.keras")
    dense.save_weights(tmp_path / "d.weights.h5")
    other = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="do not fit"):
        other.load_weights(tmp_path / "d.weights.h5")
    with pytest.warns(UserWarning, match="do not fit"):
        other.load_weights(tmp_path / "d.weights.h5", skip_mismatch=True)
