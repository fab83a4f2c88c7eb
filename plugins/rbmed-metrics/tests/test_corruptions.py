"""The report of corruptions, against the formulas written out."""

from __future__ import annotations

import pandas as pd

from rbmed_metrics.corruptions import Corruptions

BASE = {"dataset": "d", "partition": "", "unseen": "", "strategy": None, "strategy_params": "", "train_seed": 0}
BASE |= {"attack": "corruption", "norm": "corruption", "access": "oblivious", "status": "ok", "seed": 0, "n": 10}


def frame(*rows: tuple[str, str, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            BASE
            | {
                "defense": defense,
                "defense_params": "",
                "attack_params": f"{name},severity={severity}",
                "eps": float(severity),
                "clean_balanced_accuracy": clean,
                "robust_balanced_accuracy": robust,
            }
            for defense, name, severity, clean, robust in rows
        ]
    )


def lines(text: str) -> list[list[str]]:
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line][2:]


def test_errors_are_summed_over_severities_and_divided_by_the_baseline() -> None:
    base = [("undefended", "jpeg", k, 0.9, 0.9 - 0.1 * k) for k in range(1, 6)]
    ours = [("ours", "jpeg", k, 0.8, 0.8 - 0.05 * k) for k in range(1, 6)]
    table = lines(Corruptions().render(frame(*base, *ours)))
    rows = {(row[1], row[-4]): row[-3:] for row in table}
    be, be_base = (5 * 0.2 + 0.05 * 15) / 5, (5 * 0.1 + 0.1 * 15) / 5
    assert rows["undefended", "jpeg"] == [f"{100 * be_base:.1f}", "100.0", "100.0"]
    assert rows["ours", "jpeg"] == [f"{100 * be:.1f}", f"{100 * be / be_base:.1f}", "50.0"]
    assert rows["ours", "mean"] == rows["ours", "jpeg"]


def test_ratios_need_the_same_severities_of_a_baseline() -> None:
    ours = [("ours", "jpeg", 1, 0.9, 0.8), ("ours", "jpeg", 2, 0.9, 0.6)]
    (row, _) = lines(Corruptions().render(frame(*ours)))
    assert row[-4:] == ["jpeg (2 severities)", "30.0", "", ""]
    few = [("undefended", "jpeg", 1, 0.9, 0.8)]
    row = lines(Corruptions().render(frame(*few, *ours)))[2]
    assert row[-2:] == ["", ""]
    perfect = [("undefended", "jpeg", k, 1.0, 1.0) for k in (1, 2)]
    assert lines(Corruptions().render(frame(*perfect, *ours)))[2][-2:] == ["", ""]


def test_without_a_corruption_it_says_so() -> None:
    assert "No record of a corruption" in Corruptions().render(pd.DataFrame([BASE | {"norm": "linf"}]))
