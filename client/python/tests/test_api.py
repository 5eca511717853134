"""The page that maps TensorFlow's and Keras' names to ours, held against the client itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GENERATOR = Path(__file__).parents[1] / "api" / "generate.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh_and_every_missing_name_has_a_reason(generator: ModuleType) -> None:
    text, unexplained = generator.page()
    assert unexplained == []
    assert generator.PAGE.read_text() == text, "run python api/generate.py"


def test_a_parameter_of_a_name_that_is_here_has_tensorflows_place_and_default(
    generator: ModuleType,
) -> None:
    differing: dict[str, Any] = {}
    for name, entry in generator.load("tensorflow.json")["names"].items():
        ours = generator.find(name)
        if ours is not generator.ABSENT:
            _, differs = generator.compare(entry, ours)
            if differs:
                differing[name] = differs
    assert set(differing) == set(generator.load("differs.json")), differing
