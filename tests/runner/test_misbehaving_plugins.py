"""Plugins that break the rules cost their own cell, say why, and leave no trace in the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers.grids import lines, run

from robustbench_med.plugins.registry import Registry

REASONS = {
    "raise": "RuntimeError: as asked",
    "nan": "OutsideThreatModel: 3 adversarial images hold values that are not finite",
    "shape": "OutsideThreatModel: the attack returned shape (3, 1, 7, 8) for images of (3, 1, 8, 8)",
    "outside": "OutsideThreatModel: an image lies 0.2 away in linf, eps is 0.1",
    "range": "outside [0, 1]",
    "none": "OutsideThreatModel: the attack returned a NoneType, not images",
    "exit": "SystemExit: a plugin ended the program (",
    "close": "GeneratorExit: no message",
    "stop": "RuntimeError: generator raised StopIteration",
    "group": "BaseExceptionGroup: several (1 sub-exception)",
    "cancel": "CancelledError: no message",
    "control": "RuntimeError: a b\\u202ec\\udc80 d",
    "mute": "_Mute: its message cannot be shown",
    "weights": "WeightsChanged: the networks changed while attack 'faulty' ran (deployed.classifier.",
    "weights-and-raise": "WeightsChanged: the networks changed while attack 'faulty' ran (deployed.classifier.",
    "mode": "WeightsChanged: the networks changed while attack 'faulty' ran (deployed. (mode or hooks))",
    "hook": "WeightsChanged: the networks changed while attack 'faulty' ran (deployed. (mode or hooks))",
}


def test_every_fault_is_a_record_with_its_reason(toys: Registry, tmp_path: Path) -> None:
    records = run(toys, tmp_path / "out", attack=[*(f"faulty:how={how}" for how in REASONS), "shift"])
    assert [record.status for record in records] == ["failed"] * len(REASONS) + ["ok"]
    for record, (how, reason) in zip(records, REASONS.items(), strict=False):
        assert reason in (record.reason or ""), how
        assert (record.reason or "").isprintable()
    assert not (tmp_path / "out" / "partial").exists()


def test_a_fault_in_the_middle_of_a_cell_leaves_no_figures(toys: Registry, tmp_path: Path) -> None:
    (record,) = run(toys, tmp_path / "out", attack=f"faulty:how=nan,after=5,file={tmp_path / 'calls'}")
    assert (record.status, record.n, record.metrics) == ("failed", 0, {})
    assert not list((tmp_path / "out").glob("samples/*"))


def test_settings_that_a_plugin_changes_do_not_outlive_its_call(toys: Registry, tmp_path: Path) -> None:
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_rng_state())
    process = (Path.cwd(), sys.getrecursionlimit(), sys.stdout)
    records = run(toys, tmp_path / "a", attack=["faulty:how=meddle", "shift"])
    after = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_rng_state())
    assert process == (Path.cwd(), sys.getrecursionlimit(), sys.stdout), "relative results went elsewhere"
    assert before[:3] == after[:3]
    assert torch.equal(before[3], after[3])
    assert [record.status for record in records] == ["ok", "ok"]
    run(toys, tmp_path / "b", attack=["shift"])
    assert lines(tmp_path / "a")[1] == lines(tmp_path / "b")[0]


def test_records_hold_no_path_of_the_machine(toys: Registry, tmp_path: Path) -> None:
    (record,) = run(
        toys, tmp_path / "out", attack={"name": "faulty", "how": "raise", "file": str(tmp_path / "my, calls")}
    )
    assert record.attack.params["file"] == "…/my, calls"
    assert str(tmp_path.parent) not in (tmp_path / "out" / "records.jsonl").read_text()


@pytest.mark.parametrize("how", ["weights", "mode", "weights-and-raise"])
def test_changed_networks_are_loaded_again_for_the_next_cell(toys: Registry, tmp_path: Path, how: str) -> None:
    changed, after = run(toys, tmp_path / "a", attack=[f"faulty:how={how}", "shift"])
    assert (changed.status, after.status) == ("failed", "ok")
    run(toys, tmp_path / "b", attack=["shift"])
    assert lines(tmp_path / "a")[1] == lines(tmp_path / "b")[0]
