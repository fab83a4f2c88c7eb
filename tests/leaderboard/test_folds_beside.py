"""Cross-validated folds in what stands beside the boards, and in reports: all patients together, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.folds import SAFE, answers, system
from helpers.records import plain
from typer.testing import CliRunner

from robustbench_med.cli.main import app
from robustbench_med.errors import DataError
from robustbench_med.files.jsonl import write
from robustbench_med.leaderboard.ranking.acquisition import acquisition_boards
from robustbench_med.leaderboard.ranking.attacks import attack_boards
from robustbench_med.leaderboard.ranking.corruptions import corruption_boards
from robustbench_med.leaderboard.render.studies.rerun import again, cells
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.image_results import dumped as dumped_outcome
from robustbench_med.records.record import Record, dumped
from robustbench_med.records.sections.attack import AttackOptions, AttackSection
from robustbench_med.statistics.intervals import share_interval

Results = tuple[list[Record], dict[str, ImageResults]]
#: The class of each image: the folds have other shares of each, so that balanced figures cannot be averaged.
LABELS = ([0] * 6 + [1] * 2, [0] * 3 + [1] * 3, [0] * 2 + [1] * 8)


def folds(attack: str, eps: float, params: dict[str, Any], extra: int = 0) -> Results:
    """An attack on three folds; the first images of each withstand it, as many as ``extra``."""
    found, outcomes = [], {}
    for record, own, labels in zip(system(name="undefended")[0], SAFE, LABELS, strict=True):
        cell, safe = f"{attack}{eps:g}{extra}{record.cell_id}", [*([True] * extra), *own[extra:]]
        classes = np.array(labels, dtype=np.int8)
        attacked = np.where(safe, classes, 1 - classes).astype(np.int8)
        outcomes[cell] = replace(
            answers(record, safe), cell_id=cell, labels=classes, clean=classes[None], attacked=attacked[None]
        )
        made = plain(cell, safe, attack=attack)
        balanced = float(np.mean([np.array(safe)[classes == label].mean() for label in (0, 1)]))
        changes = {
            "dataset": record.dataset,
            "defense": record.defense,
            "patients": record.patients,
            "metrics": {**made.metrics, "clean_balanced_accuracy": 1.0, "robust_balanced_accuracy": balanced},
            "threat": made.threat.model_copy(update={"norm": attack, "eps": eps}),
            "attack": AttackSection(name=attack, params_passed=params, asked=AttackOptions(access="oblivious")),
        }
        found.append(made.model_copy(update=changes))
    return found, outcomes


def corruptions() -> Results:
    """One corruption at two severities, of which the second takes less."""
    one, two = (folds("corruption", eps, {"name": "jpeg", "severity": eps}, extra) for eps, extra in ((1, 0), (2, 2)))
    return [*one[0], *two[0]], one[1] | two[1]


def pool(records: list[Record], outcomes: dict[str, ImageResults]) -> tuple[Any, Any, list[str]]:
    """What withstands, labels and patients of all folds."""
    kept = [outcomes[record.cell_id] for record in records]
    left, labels = (np.concatenate([getattr(each, what) for each in kept]) for what in ("robust", "labels"))
    return left, labels, [who for each in kept for who in each.patients]


def test_a_corruption_of_folds_is_one_row_of_all_patients() -> None:
    records, outcomes = corruptions()
    (board,) = corruption_boards(records, outcomes)
    assert (board.title, board.images, board.patients) == ("d:folds=3 (synthetic)", 24, 12)
    mean, row = board.rows
    assert (mean.name, row.name, sorted(row.balanced)) == ("", "jpeg", [1, 2])
    for severity, own in ((1, records[:3]), (2, records[3:])):
        left, labels, _ = pool(own, outcomes)
        assert row.balanced[severity] == pytest.approx(np.mean([left[labels == label].mean() for label in (0, 1)]))
    shares = np.mean([pool(own, outcomes)[0] for own in (records[:3], records[3:])], axis=0)
    assert row.kept is not None
    assert row.kept.interval == pytest.approx(share_interval(shares, pool(records[:3], outcomes)[2]).bounds)
    assert cells(row.records).split() == [record.cell_id for record in records]
    assert "--dataset d:folds=3 " in " ".join(again(row.records))


def test_artefacts_on_folds_are_one_row_of_all_patients() -> None:
    chosen, chance = (
        folds("acquisition", 1.0, {"physics": "all", "steps": steps, "restarts": 1}, extra)
        for steps, extra in ((20, 0), (0, 4))
    )
    (board,) = acquisition_boards([*chosen[0], *chance[0]], chosen[1] | chance[1])
    assert (board.images, board.patients) == (24, 12)
    (row,) = board.rows
    for figure, (records, outcomes) in ((row.worst, chosen), (row.chance, chance)):
        left, _, people = pool(records, outcomes)
        assert figure is not None
        assert figure.value == pytest.approx(left.mean())
        assert figure.interval == pytest.approx(share_interval(left, people).bounds)


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("record", "incomplete: of 3 folds, fold 1 was not measured"),
        ("images", "per-image results of fold 1 are missing"),
        ("failed", "fold 1: out of memory"),
    ],
)
def test_what_is_not_of_all_folds_is_refused(lacking: str, why: str) -> None:
    records, outcomes = folds("corruption", 1.0, {"name": "jpeg"})
    if lacking == "record":
        del records[1]
    elif lacking == "images":
        del outcomes[records[1].cell_id]
    else:
        records[1] = records[1].model_copy(update={"status": "failed", "reason": "out of memory"})
    with pytest.raises(DataError, match=rf"d:folds=3.*jpeg.*{why}.*with folds=K and without fold"):
        corruption_boards(records, outcomes)
    with pytest.raises(DataError, match=why):
        acquisition_boards([_as(record, "acquisition") for record in records], outcomes)
    budget = records[0].budget.model_copy(update={"gradients": 10})
    with pytest.raises(DataError, match=why):
        attack_boards([record.model_copy(update={"budget": budget}) for record in records], outcomes)


def _as(record: Record, norm: str) -> Record:
    return record.model_copy(update={"threat": record.threat.model_copy(update={"norm": norm})})


@pytest.mark.parametrize("report", ["corruptions", "seeds"])
def test_a_report_has_one_row_for_all_folds(report: str, tmp_path: Path) -> None:
    records, outcomes = folds("corruption", 1.0, {"name": "jpeg", "severity": 1})
    path = tmp_path / "records" / "mine.jsonl"
    write(path, "".join(f"{dumped(record)}\n" for record in records).encode())
    told = CliRunner().invoke(app, ["table", str(path), "--report", report])
    assert told.exit_code == 2, told.output
    assert "per-image results of fold 0, 1, 2 are missing" in " ".join(told.output.split())
    write(
        tmp_path / "outcomes" / path.name, "".join(f"{dumped_outcome(each)}\n" for each in outcomes.values()).encode()
    )
    told = CliRunner().invoke(app, ["table", str(path), "--report", report])
    assert told.exit_code == 0, told.output
    left, labels, people = pool(records, outcomes)
    if report == "seeds":
        (line,) = [each for each in told.output.splitlines() if "jpeg" in each]
        low, high = share_interval(left, people).bounds
        assert f"[{100 * low:.1f}, {100 * high:.1f}] |" in line
        assert f"| {100 * left.mean():.1f} |" in line
        assert "| 24/12 |" in line
    else:
        balanced = np.mean([left[labels == label].mean() for label in (0, 1)])
        assert f"{100 * (1 - balanced):.1f} | 100.0 | 100.0 |" in told.output
