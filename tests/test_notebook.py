"""The notebook of docs/: small, without outputs, a sentence before each cell, and it runs."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "stage_from_python.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs_and_every_cell_is_introduced(notebook):
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 20_000
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds == ["markdown", "code"] * (len(kinds) // 2)
    for cell in notebook.cells[1::2]:
        assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.slow
def test_it_runs_from_its_folder_and_writes_elsewhere(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the notebook makes its folder
    before = changed()
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, resources=place).execute()  # raises where a cell fails
    assert changed() == before
    done = ast.literal_eval(notebook.cells[-1].outputs[-1].data["text/plain"])
    assert done["epochs"] == 180  # an hour and a half
    assert len(done["explained"]) == 4 and set(done["explained"]) < set(range(180))
    # the simulator's own model and YASA are both far from chance on it
    assert set(done["kappa"]) == {"default", "yasa"} and min(done["kappa"].values()) > 0.4
    assert Path(done["page"]).is_relative_to(tmp_path)
    assert "slow waves" in Path(done["page"]).read_text(encoding="utf-8")
    outputs = [output for cell in notebook.cells[1::2] for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


def changed() -> str:
    """What git sees that is not committed."""
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
