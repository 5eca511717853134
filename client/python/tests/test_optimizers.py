"""Optimizers and schedules by Keras' names, with the numbers of `tests/golden/optimizers`."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradtape as tf
from gradtape.experimental import run_loop
from gradtape.keras import optimizers
from gradtape.keras.optimizers import schedules

GOLDEN = Path(__file__).parents[3] / "tests" / "golden" / "optimizers"
KERAS = json.loads((GOLDEN / "keras.json").read_text())
TORCH = json.loads((GOLDEN / "torch.json").read_text())
SCHEDULES = json.loads((GOLDEN / "schedules.json").read_text())
CLASSES = {
    cls._name: cls
    for cls in vars(optimizers).values()
    if inspect.isclass(cls)
    and issubclass(cls, optimizers.Optimizer)
    and cls is not optimizers.Optimizer
}


def label(case: dict[str, Any]) -> str:
    return f"{case['optimizer']} {case['hyperparameters']}"


@pytest.mark.parametrize(
    "golden, case",
    [(g, c) for g in (KERAS, TORCH) for c in g["cases"]],
    ids=[label(c) for g in (KERAS, TORCH) for c in g["cases"]],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_ten_steps(golden: dict[str, Any], case: dict[str, Any], sparse: bool) -> None:
    optimizer = CLASSES[case["optimizer"]](**case["hyperparameters"])
    shapes = golden["shapes"]
    initial = [np.float32(x).reshape(s) for x, s in zip(golden["initial"], shapes, strict=True)]
    variables = [tf.Variable(x) for x in initial]
    for (rows, vector), expected in zip(golden["gradients"], case["values"], strict=True):
        slices = tf.IndexedSlices(
            tf.constant(np.float32(rows).reshape(-1, shapes[0][1])),
            tf.constant(golden["indices"]),
            tf.constant(shapes[0]),
        )
        matrix = slices if sparse else tf.convert_to_tensor(slices)
        optimizer.apply_gradients(
            zip([matrix, tf.constant(np.float32(vector))], variables, strict=True)
        )
        found = np.concatenate([v.numpy().reshape(-1) for v in variables])
        tolerance = 1e-4 if case["optimizer"] == "muon" else 2e-5
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", SCHEDULES["cases"], ids=lambda c: f"{c['class']} {c['arguments']}")
def test_schedules_here_and_on_the_server(case: dict[str, Any]) -> None:
    schedule = getattr(schedules, case["class"])(**case["arguments"])
    here = [float(schedule(step).numpy()) for step in SCHEDULES["steps"]]
    np.testing.assert_allclose(here, case["rates"], rtol=2e-6, atol=2e-8)
    again = schedules.deserialize(schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
    optimizer = optimizers.SGD(schedule)
    variable = tf.Variable(0.0)
    there = []
    for step in range(102):
        if step in SCHEDULES["steps"]:
            there.append(float(optimizer._read("learning_rate", tf.float32).numpy()))
        optimizer.apply_gradients([(tf.constant(1.0), variable)])
    np.testing.assert_allclose(there, here[: len(there)], rtol=2e-6, atol=2e-8)


def test_every_optimizer_and_schedule_of_keras_is_here() -> None:
    names = json.loads((Path(__file__).parents[1] / "api" / "tensorflow.json").read_text())["names"]
    skip = {"Optimizer", "legacy", "schedules"}
    for module, found in (
        ("tf.keras.optimizers", optimizers),
        ("tf.keras.optimizers.schedules", schedules),
    ):
        for name, entry in names.items():
            owner, _, last = name.rpartition(".")
            if owner != module or last in skip:
                continue
            signature = inspect.signature(getattr(found, last))
            for parameter, *default in entry["parameters"]:
                if parameter.startswith("*"):
                    continue
                assert parameter in signature.parameters, (name, parameter)
                if default and parameter != "name":
                    assert repr(signature.parameters[parameter].default) == default[0], (
                        name,
                        parameter,
                    )


def test_custom_schedules_and_callables_are_evaluated_here() -> None:
    class Halves(schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.5 ** (int(step) + 1)

    for rate in (Halves(), iter([0.5, 0.5, 0.25, 0.125]).__next__):
        variable = tf.Variable(0.0)
        optimizer = optimizers.SGD(rate)
        for expected in (-0.5, -0.75, -0.875):
            optimizer.apply_gradients([(tf.constant(1.0), variable)])
            assert variable.numpy() == expected


def test_learning_rate() -> None:
    variable = tf.Variable(1.0)
    one = tf.constant(1.0)
    optimizer = optimizers.SGD(0.5)
    optimizer.learning_rate = 0.25
    assert optimizer.learning_rate == 0.25
    optimizer.learning_rate = schedules.ExponentialDecay(0.5, 1, 0.5)
    optimizer.apply_gradients([(one, variable)])
    assert variable.numpy() == 0.5
    assert float(optimizer.learning_rate) == 0.25
    with pytest.raises(TypeError, match="not settable"):
        optimizer.learning_rate = 0.1
    with pytest.raises(ValueError, match="should be float"):
        optimizers.SGD(1)


def test_exclusions_from_weight_decay() -> None:
    kernel, bias, scale = (tf.Variable([8.0], name=name) for name in ("kernel", "bias", "gamma"))
    optimizer = optimizers.SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[scale], var_names=["bi.s"])
    zero = tf.constant([0.0])
    optimizer.apply([zero, zero, zero], [kernel, bias, scale])
    assert [float(v.numpy()[0]) for v in (kernel, bias, scale)] == [6.0, 8.0, 8.0]


def test_muon_steps_embeddings_and_excluded_layers_by_adam() -> None:
    gradient = tf.constant([[1.0, 2.0], [3.0, 5.0]])

    def step(path: str, **given: Any) -> np.ndarray:
        variable = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name=path)
        optimizers.Muon(0.1, **given).apply([gradient], [variable])
        return variable.numpy()

    adam = step("head", exclude_layers=["hea"])
    np.testing.assert_array_equal(step("embeddings"), adam)
    orthogonal = step("embeddings", exclude_embeddings=False)
    np.testing.assert_array_equal(step("head"), orthogonal)
    assert np.abs(adam - orthogonal).max() > 1e-3


def test_moving_averages() -> None:
    variable = tf.Variable(0.0)
    optimizer = optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    for _ in range(3):
        optimizer.apply([tf.constant(-1.0)], [variable])
    optimizer.finalize_variable_values([variable])
    assert variable.numpy() == 2.25


def test_loss_scale() -> None:
    inner = optimizers.SGD(1.0)
    optimizer = optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=2)
    variable = tf.Variable(1.0)
    assert optimizer.scale_loss(tf.constant(3.0)).numpy() == 24.0
    optimizer.apply([tf.constant(float("inf"))], [variable])
    assert (variable.numpy(), optimizer.dynamic_scale.numpy(), optimizer.iterations) == (
        1.0,
        4.0,
        0,
    )
    for expected in (0.5, 0.0):
        optimizer.apply([tf.constant(2.0)], [variable])
        assert variable.numpy() == expected
    assert optimizer.dynamic_scale.numpy() == 8.0
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize("how", ["function", "unrolled", "loop"])
def test_loss_scale_in_functions(how: str) -> None:
    """A step is skipped, and the scale moves, as it does step by step."""
    found = []
    # The gradients are 1000 times the scale, so those of half precision are soon infinite.
    x = tf.constant(np.full((3,), 1000.0, np.float16))
    for traced in (False, True):
        w = tf.Variable(tf.ones((3,), tf.float16))
        optimizer = optimizers.LossScaleOptimizer(
            optimizers.Adam(0.1), initial_scale=1024.0, dynamic_growth_steps=2
        )

        def step(x: Any, w: Any = w, optimizer: Any = optimizer) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(x * w)
                scaled = optimizer.scale_loss(tf.cast(loss, tf.float32))
            optimizer.apply_gradients([(tape.gradient(scaled, w), w)])
            return optimizer.dynamic_scale

        step(x)  # Makes what the optimizer keeps, if it does not skip.
        if how == "loop" and traced:
            run_loop(tf.function(step).get_concrete_function(x), 12, arguments=[x]).wait()
        elif how == "unrolled":

            def thrice(x: Any, step: Any = step) -> list[Any]:
                return [step(x) for _ in range(3)]

            call: Any = tf.function(thrice) if traced else thrice
            scales = [[s.numpy() for s in call(x)] for _ in range(4)]
            assert len({scale for group in scales for scale in group}) > 2
        else:
            call = tf.function(step) if traced else step
            scales = [call(x).numpy() for _ in range(12)]
            assert len(set(scales)) > 2
        state = [w, optimizer.inner_optimizer.iterations, optimizer.dynamic_scale]
        found.append([np.asarray(part).tobytes() for part in state])
    assert found[0] == found[1]


def test_one_optimizer_for_each_part() -> None:
    body, head = tf.Variable(1.0, name="body/kernel"), tf.Variable(1.0, name="head/kernel")
    parts = optimizers.OptimizerMap(optimizers.SGD(0.5), {"head/.*": optimizers.SGD(0.25)})
    optimizer = optimizers.MultiOptimizer(parts, loss_scale_factor=2.0)
    two = optimizer.scale_loss(tf.constant(1.0))
    optimizer.apply([two, two], [body, head])
    assert (body.numpy(), head.numpy()) == (0.5, 0.75)


@pytest.mark.parametrize("name", CLASSES)
def test_configurations(name: str) -> None:
    optimizer = CLASSES[name](learning_rate=schedules.CosineDecay(0.1, 10), clipnorm=1.0)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert optimizers.get(name.replace("_", "")).get_config() == CLASSES[name]().get_config()


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="Only one of"):
        optimizers.SGD(0.1, clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ValueError, match="not recognized: decay"):
        optimizers.Adam(decay=0.1)
    with pytest.raises(ValueError, match=">= 2"):
        optimizers.Adam(gradient_accumulation_steps=1)
    with pytest.raises(ValueError, match="There are: adadelta"):
        optimizers.get("adamant")
