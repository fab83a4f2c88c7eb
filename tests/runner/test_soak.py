"""Two hundred cells in one process: memory stays what it was after the first twenty."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.grids import BASE, trained

from robustbench_med.grid.config import build
from robustbench_med.runner.runner import Runner
from robustbench_med.runtime.memory import resident, trim


@pytest.mark.slow
@pytest.mark.skipif(resident() is None, reason="this system does not say how much memory a process holds")
def test_memory_does_not_grow_with_the_number_of_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    registry = trained()
    # More trained defenses and data sets than are held at once, so that loading and dropping is part of it.
    datasets = [f"stripes:test={n}" for n in (12, 16, 20, 24, 28)]
    asked = {
        "dataset": datasets,
        "defense": ["guarded", "guarded:fpr=0.2"],
        "attack": ["shift", "apgd:steps=2"],
        "access": ["oblivious", "full"],
        "seed": list(range(5)),
        "train": True,
        "out": tmp_path / "out",
    }
    held, cells = [], 0
    for record in Runner(build({**BASE, **asked}), registry).run():
        assert record.status == "ok", record.reason
        cells += 1
        if cells in (20, 200):
            trim()
            held.append(resident() or 0)
    assert cells == 200
    assert held[1] <= 1.05 * held[0], f"{held[0] / 2**20:.0f} MiB after 20 cells, {held[1] / 2**20:.0f} after 200"
