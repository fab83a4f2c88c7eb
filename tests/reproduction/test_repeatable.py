"""A cell that differs is measured once more: its record is wrong, or no record of it can be shown to be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.grids import run

from robustbench_med.plugins.registry import Registry
from robustbench_med.reproduction.verify import Verifier


@pytest.mark.parametrize("restless", [True, False])
def test_an_attack_that_is_not_repeatable_is_told_from_a_record_that_is_wrong(
    restless: bool, toys: Registry, tmp_path: Path
) -> None:
    (record,) = run(toys, tmp_path / "out", attack=f"faulty:how={'restless' if restless else 'well'}")
    assert record.status == "ok"
    if not restless:
        record = record.model_copy(update={"metrics": {**record.metrics, "robust_accuracy": 0.123}})
    finding = Verifier(toys).verify(record, tmp_path / "out" / "samples")
    assert finding.verdict == "differs", finding.notes
    told = [note for note in finding.notes if note.startswith("not repeatable: ")]
    assert len(told) == restless
    assert all("rbmed check" in note for note in told)
