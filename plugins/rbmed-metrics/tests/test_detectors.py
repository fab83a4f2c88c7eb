"""The report that sets detectors side by side."""

from __future__ import annotations

import pandas as pd

from rbmed_metrics.detectors import Detectors


def rows(text: str) -> list[dict[str, str]]:
    head, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    )
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_detectors_stand_together_under_each_attack_best_first(measured) -> None:
    table = [
        measured(detector_auroc=0.6),
        measured(access="full", detector_auroc=0.5),
        measured(defense_params="detector=energy", detector_auroc=0.8),
        measured(defense_params="detector=energy", access="full", detector_auroc=0.4),
        measured(defense_params="detector=none", detector_auroc=None),
        measured(defense_params="detector=energy", access="gate", status="failed", detector_auroc=None),
    ]
    found = rows(Detectors().render(pd.DataFrame(table)))
    assert [(row["attack"], row["defense"], row["AUROC"]) for row in found] == [
        ("apgd:steps=5 oblivious linf 0.01", "f:detector=energy", "0.800"),
        ("apgd:steps=5 oblivious linf 0.01", "f:detector=knn", "0.600"),
        ("apgd:steps=5 full linf 0.01", "f:detector=knn", "0.500"),
        ("apgd:steps=5 full linf 0.01", "f:detector=energy", "0.400"),
    ]


def test_figures_are_in_percent_and_columns_without_any_are_left_out(measured) -> None:
    (found,) = rows(Detectors().render(pd.DataFrame([measured()])))
    figures = ["0.900", "25.0", "50.0", "4.0", "45.0", "12.5", "50.0", "48/-"]
    assert list(found.values()) == ["d", "apgd:steps=5 oblivious linf 0.01", "f:detector=knn", *figures]
    assert ", ".join(found) == (
        "data set, attack, defense, AUROC, TPR at 1 %, TPR at 5 %, FPR, TPR, slips by, robust, images/patients"
    )


def test_a_cell_counts_as_it_was_measured_last_and_training_seeds_stay_apart(measured) -> None:
    other = measured(train_seed=1, detector_auroc=0.6, detector_auroc_low=0.5, detector_auroc_high=0.65)
    table = [measured(detector_auroc=0.1), measured(detector_auroc=0.7), other]
    found = rows(Detectors().render(pd.DataFrame(table)))
    assert [(row["train seed"], row["AUROC"]) for row in found] == [("", "0.700"), ("1", "0.600 [0.500, 0.650]")]


def test_what_all_defenses_share_is_said_once(measured) -> None:
    table = pd.DataFrame(
        [measured(defense_params=f"detector={name},purifier=ddim,strength=1") for name in ("knn", "energy")]
    )
    text = Detectors().render(table)
    assert [row["defense"] for row in rows(text)] == ["f:detector=knn", "f:detector=energy"]
    assert text.endswith("\nAll with purifier=ddim,strength=1.\n")


def test_without_a_detector_there_is_no_table(measured) -> None:
    assert Detectors().render(pd.DataFrame([measured(detector_auroc=None)])) == (
        "No record of a defense with a detector.\n"
    )
    assert "no record" in Detectors().render(pd.DataFrame([{"status": "failed", "defense": "f"}])).lower()
