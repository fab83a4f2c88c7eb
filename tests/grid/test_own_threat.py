"""Attacks on a family of changes that is no ball bring their own threat model, which no board of a norm holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.errors import OutsideThreatModel, UsageError
from robustbench_med.grid.cell import Cell, cell_of
from robustbench_med.grid.config import build
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.leaderboard.ranking.identity import board_key
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.rerun import request


def test_a_family_keeps_the_range_and_nothing_else() -> None:
    threat = ThreatModel("acquisition", 1.0)
    x, far = torch.full((2, 1, 4, 4), 0.2), torch.ones(2, 1, 4, 4)
    threat.check(far, x)
    assert threat.allows(far, x).all()
    assert torch.equal(threat.project(far + 1, x), far)
    assert not threat.is_ball
    threat.check_eps(1)
    torch.testing.assert_close(threat.distance(far, x), torch.full((2,), 0.8 * 4))
    for wrong in (far * 1.1, far * torch.nan):
        with pytest.raises(OutsideThreatModel):
            threat.check(wrong, x)
    with pytest.raises(UsageError, match="a share of physical limits is at most 1, not 2"):
        ThreatModel("acquisition", 2)
    with pytest.raises(UsageError, match="a severity is at most 5, not 6"):
        ThreatModel("corruption", 6)


@pytest.mark.parametrize("given", [{}, {"norm": "l2", "eps": 0.5}, {"threat": ["linf:4/255"]}])
def test_the_threat_of_the_attack_replaces_the_one_that_was_asked_for(given: dict[str, object]) -> None:
    config = build({"defense": "undefended", "access": "oblivious", "attack": "acquisition:share=1/2", **given})
    (cell,) = list(plan(config, Registry()))
    assert isinstance(cell, Cell)
    assert (cell.threat.norm, cell.threat.eps) == ("acquisition", 0.5)


def test_a_grid_measures_such_a_cell_once_beside_those_of_balls() -> None:
    attacks = ["acquisition", "pgd"]
    config = build({"defense": "undefended", "access": "oblivious", "attack": attacks, "eps": [0.01, 0.02]})
    cells = [cell_of(each) for each in plan(config, Registry())]
    assert sorted((c.attack.name, c.threat.norm) for c in cells) == [
        ("acquisition", "acquisition"),
        ("pgd", "linf"),
        ("pgd", "linf"),
    ]


def test_an_attack_of_a_ball_is_not_defined_for_a_family() -> None:
    """On a ladder every rung gets the attack; what cannot follow its gradient is left out with the reason."""
    config = build({"defense": "medfedpure", "access": "ladder:quick", "attack": "acquisition"})
    cell = next(c for c in map(cell_of, plan(config, Registry())) if c.defense.name == "medfedpure")
    assert cell.threat.norm == "acquisition"
    reasons = {left.name.partition(" ")[0]: left.reason for left in cell.left_out}
    assert "is not defined for acquisition" in reasons["query"]
    assert {rung.access for rung in cell.rungs} >= {"oblivious", "full"}


def test_a_record_asks_for_its_cell_again_and_is_of_another_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    registry = Registry(files=[TOY])
    rbmed.train_defense("bare", "stripes", registry=registry)
    asked = {"dataset": "stripes", "defense": "bare", "baseline": "", "access": "oblivious", "limit": 6}
    attacks = ["acquisition:steps=2,restarts=1", "pgd:steps=1"]
    records = rbmed.evaluate(registry=registry, out=tmp_path / "out", attack=attacks, diagnostics="full", **asked)
    family, ball = records
    assert [r.status for r in records] == ["ok", "ok"]
    assert (family.threat.norm, family.threat.eps) == ("acquisition", 1.0)
    assert family.metrics["robust_accuracy"] is not None
    assert "norm" not in request(family)
    again = build(request(family))
    (cell,) = plan(again, registry)
    assert cell_of(cell).threat.norm == "acquisition"
    assert board_key(family) != board_key(ball)
    assert not {"survives-huge-eps", "eps-not-monotone"} & set(family.diagnostics.flags)
