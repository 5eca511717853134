"""Runs the cells of the example notebook in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "gradient_tape.ipynb"


def test_gradient_tape_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    seen: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            assert not cell.outputs, "outputs are not kept in the repository"
            exec(compile(cell.source, f"cell {number}", "exec"), seen)
            printed += capsys.readouterr().out.splitlines()
    loss = printed.pop(4)
    assert printed == [
        "dz/dx = 3.0",
        "dz/dy = 2.0",
        "w = 2.0080034732818604",
        "b = -0.9919993877410889",
        "first derivative: 12.0",
        "second derivative: 12.0",
    ]
    assert loss.startswith("loss: ")
    assert seen["losses"][-1] < seen["losses"][0] / 2
