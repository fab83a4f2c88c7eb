"""The notebooks of the documentation run, as in Jupyter: with progress, tables and plots, and errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_its_outputs(path: Path) -> None:
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    assert [cell.outputs for cell in cells(kept)] == [[]] * len(cells(kept))
    assert {cell.execution_count for cell in cells(kept)} == {None}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaderboard").symlink_to(ROOT / "leaderboard")
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in cells(notebook) for output in cell.outputs]
    shown = [output.data for output in outputs if "data" in output]
    assert any("image/png" in data for data in shown), "no plot is shown"
    assert any("<table" in data.get("text/html", "") for data in shown), "no table is shown"
    errors = [output for output in outputs if output.output_type == "error"]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert not any(place in said for place in (str(ROOT), ".py", "Warning:", "Note:")), said
    assert [output.traceback for output in errors] == [[f"{output.ename}: {output.evalue}"] for output in errors]
    if path.stem == "evaluate-your-model":
        assert "note: " in said
        (error,) = errors
        assert "unknown parameter 'stepps', did you mean 'steps'?" in error.evalue
