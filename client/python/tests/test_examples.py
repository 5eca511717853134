"""The examples, at reduced length."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import gradtape as tf

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(name: str, *arguments: str) -> Any:
        sys.modules.pop(name, None)
        return importlib.import_module(name).main(["--quick", *arguments])

    return run


def test_digits_cnn(example: Any) -> None:
    history, accuracy = example("digits_cnn")
    assert history["loss"][-1] < history["loss"][0]
    assert accuracy > 0.85


def test_character_gpt(example: Any) -> None:
    loss, bigram = example("character_gpt")
    # A bigram model knows Newton's text: far better than chance, and the reduced run comes near.
    assert 2.0 < bigram < 2.6
    assert loss < math.log(79) - 1.0
    assert loss < bigram + 0.6


def test_sine_lstm(example: Any) -> None:
    error, naive = example("sine_lstm", "--length", "12")
    assert error < 0.4  # The series' variance is 0.625: it has learned something.
    assert naive > 0.05


def test_digits_vae(example: Any) -> None:
    history, found = example("digits_vae")
    assert history["loss"][-1] < history["loss"][0] - 5.0
    assert found["loss"] < 45.0  # Pixels of one half cost 64 ln 2 = 44.4.
    assert found["divergence"] > 0.0


def test_keep(example: Any, tmp_path: Path) -> None:
    name = f"keep-{tmp_path.name}"
    first = example("keep", name)
    tf.disconnect()
    second = example("keep", name)
    tf.checkpoints.delete(name)
    assert second != first
