"""What a run of the ladder leaves in its records: rungs, reasons, diagnostics and budget."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import robustbench_med as rbmed
from robustbench_med.interfaces.threat import Budget
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import ACCESS


def test_a_ladder_leaves_a_record_of_every_rung(toys: Registry, tmp_path: Path) -> None:
    (record,) = rbmed.evaluate(
        registry=toys,
        dataset="stripes",
        defense="guarded",
        baseline="",
        access="ladder",
        eps="1/20",
        surrogate="bare",
        out=tmp_path,
    )
    assert record.attack.name == "ladder"
    assert [rung.access for rung in record.rungs] == [access for access in ACCESS if access != "insider"]
    assert record.surrogate is not None
    assert record.surrogate.name == "bare"
    left = [rung.withstanding for rung in record.rungs]
    assert left == sorted(left, reverse=True)
    assert record.eot == 2
    frame = pd.read_parquet(tmp_path / "samples" / f"{record.cell_id}.parquet")
    assert set(frame["broken_by"]) <= {"", *(rung.rung for rung in record.rungs)}


def test_rungs_that_a_defense_does_not_admit_are_named(toys: Registry, tmp_path: Path) -> None:
    (record,) = rbmed.evaluate(
        registry=toys, dataset="stripes", defense="bare", baseline="", access="ladder", surrogate="bare", out=tmp_path
    )
    reasons = {rung.access: rung.reason for rung in record.rungs if rung.reason}
    assert set(reasons) == {"transfer", "boundary", "bpda", "full", "gate"}
    assert "is the defense itself" in reasons["transfer"]
    assert record.metrics["robust_accuracy"] is not None


def test_transfer_to_itself_is_skipped_with_a_reason(toys: Registry, tmp_path: Path) -> None:
    records = rbmed.evaluate(
        registry=toys,
        dataset="stripes",
        defense="guarded",
        baseline="bare",
        access="transfer",
        surrogate="bare",
        attack="shift",
        diagnostics="off",
        out=tmp_path,
    )
    assert [r.status for r in records] == ["skipped", "ok"]
    assert records[1].diagnostics.model_dump() == {}


def test_full_diagnostics_vary_eps_steps_and_seed(toys: Registry, tmp_path: Path) -> None:
    (record,) = rbmed.evaluate(
        registry=toys,
        dataset="stripes",
        defense="bare",
        baseline="",
        access="oblivious",
        attack="apgd:steps=5",
        eps="1/20",
        diagnostics="full",
        out=tmp_path,
    )
    figures = record.diagnostics.figures
    assert figures["robust_half_eps"] >= figures["robust_as_asked"] >= figures["robust_double_eps"]
    assert figures["robust_double_steps"] <= figures["robust_as_asked"]
    assert figures["robust_as_asked"] == record.metrics["robust_accuracy"]


def test_a_budget_is_kept_and_recorded(toys: Registry, tmp_path: Path) -> None:
    (record,) = rbmed.evaluate(
        registry=toys,
        dataset="stripes",
        defense="bare",
        baseline="",
        access="query",
        attack="square:queries=500",
        eps="1/100",
        max_queries=20,
        diagnostics="off",
        out=tmp_path,
    )
    assert record.budget.model_dump() == {"gradients": None, "queries": 20}
    assert 0 < record.spent.queries_max <= 20
    assert Budget(**record.budget.model_dump()) == Budget(queries=20)
