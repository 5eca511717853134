"""Programs written for TensorFlow, of which nothing is changed but the name that they import.

Each of them also runs with TensorFlow: `python tests/programs/NAME.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import gradtape as tf

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_runs_after_its_import_is_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = path.read_text().replace("import tensorflow as tf", "import gradtape as tf")
    source = source.replace("from tensorflow", "from gradtape")
    assert "tensorflow" not in source.split('"""', 2)[2]
    monkeypatch.setattr(sys, "argv", [str(path)])
    exec(compile(source, str(path), "exec"), {"__name__": "__main__"})
    tf.synchronize()
