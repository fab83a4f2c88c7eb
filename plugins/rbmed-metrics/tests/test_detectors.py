"""The report that sets detectors side by side."""

from __future__ import annotations

import pandas as pd

from rbmed_metrics.detectors import Detectors


def measured(defense_params: str = "detector=knn", access: str = "oblivious", **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "dataset": "d", "partition": None, "unseen": "", "defense": "f", "defense_params": defense_params,
        "strategy": None, "strategy_params": "", "train_seed": 0, "attack": "apgd", "attack_params": "steps=5",
        "norm": "linf", "eps": 0.01, "access": access, "role": "cell", "status": "ok", "n": 48, "seed": 0,
        "robust_accuracy": 0.5, "detector_auroc": 0.9, "detector_tpr_at_1": 0.25, "detector_tpr_at_5": 0.5,
        "detector_fpr": 0.04, "detector_tpr": 0.45, "undetected_and_wrong": 0.125,
    }  # fmt: skip
    return row | more


def rows(text: str) -> list[dict[str, str]]:
    head, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    )
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_detectors_stand_together_under_each_attack_best_first() -> None:
    table = pd.DataFrame([
        measured("detector=knn", detector_auroc=0.6),
        measured("detector=knn", "full", detector_auroc=0.5),
        measured("detector=energy", detector_auroc=0.8),
        measured("detector=energy", "full", detector_auroc=0.4),
        measured("detector=none", detector_auroc=None),
        measured("detector=energy", "gate", status="failed", detector_auroc=None),
    ])  # fmt: skip
    found = rows(Detectors().render(table))
    assert [(row["attack"], row["defense"], row["AUROC"]) for row in found] == [
        ("apgd:steps=5 oblivious linf 0.01", "f:detector=energy", "0.800"),
        ("apgd:steps=5 oblivious linf 0.01", "f:detector=knn", "0.600"),
        ("apgd:steps=5 full linf 0.01", "f:detector=knn", "0.500"),
        ("apgd:steps=5 full linf 0.01", "f:detector=energy", "0.400"),
    ]


def test_figures_are_in_percent_and_columns_without_any_are_left_out() -> None:
    (found,) = rows(Detectors().render(pd.DataFrame([measured()])))
    assert found == {
        "data set": "d", "attack": "apgd:steps=5 oblivious linf 0.01", "defense": "f:detector=knn", "AUROC": "0.900",
        "TPR at 1 %": "25.0", "TPR at 5 %": "50.0", "FPR": "4.0", "TPR": "45.0", "slips by": "12.5", "robust": "50.0",
        "images": "48",
    }  # fmt: skip


def test_a_cell_counts_as_it_was_measured_last_and_training_seeds_stay_apart() -> None:
    table = pd.DataFrame([
        measured(detector_auroc=0.1), measured(detector_auroc=0.7),
        measured(train_seed=1, detector_auroc=0.6, detector_auroc_low=0.5, detector_auroc_high=0.65),
    ])  # fmt: skip
    found = rows(Detectors().render(table))
    assert [(row["train seed"], row["AUROC"]) for row in found] == [("", "0.700"), ("1", "0.600 [0.500, 0.650]")]


def test_what_all_defenses_share_is_said_once() -> None:
    table = pd.DataFrame([measured(f"detector={name},purifier=ddim,strength=1") for name in ("knn", "energy")])
    text = Detectors().render(table)
    assert [row["defense"] for row in rows(text)] == ["f:detector=knn", "f:detector=energy"]
    assert text.endswith("\nAll with purifier=ddim,strength=1.\n")


def test_without_a_detector_there_is_no_table() -> None:
    assert Detectors().render(pd.DataFrame([measured(detector_auroc=None)])) == (
        "No record of a defense with a detector.\n"
    )
    assert "no record" in Detectors().render(pd.DataFrame([{"status": "failed", "defense": "f"}])).lower()
