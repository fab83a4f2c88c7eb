"""Metrics on outcomes small enough to count by hand."""

from __future__ import annotations

from functools import partial

import pandas as pd
import pytest
import torch

from rbmed_metrics.classification import Classification
from rbmed_metrics.corruptions import Corruptions
from rbmed_metrics.detection import Detection, Purification
from rbmed_metrics.detectors import Detectors
from rbmed_metrics.reports import CSV, Markdown
from rbmed_metrics.seeds import Seeds
from robustbench_med import Outcome, Predictions, RungResult


def predicted(
    predictions: list[list[int]], flagged: list[list[bool]] | None = None, **more: torch.Tensor
) -> Predictions:
    answers = torch.tensor(predictions)
    none = torch.zeros_like(answers, dtype=torch.bool)
    marks = none if flagged is None else torch.tensor(flagged)
    fields = {
        "predictions": answers,
        "flagged": marks,
        "rejected": none,
        "scores": torch.full(answers.shape, torch.nan),
        "changed": marks,
        "purified_rmse": torch.where(marks, 0.1, 0.0),
    }
    return Predictions(**{**fields, **more})


def outcome(clean: Predictions, attacked: Predictions, labels: list[int], lesion: int | None = 1) -> Outcome:
    n = len(labels)
    return Outcome(
        labels=torch.tensor(labels),
        sites=("a",) * n,
        patients=tuple(map(str, range(n))),
        clean=clean,
        attacked=attacked,
        distances=torch.zeros(n),
        rungs=(RungResult.empty("none", "oblivious", n),),
        num_classes=2,
        lesion_class=lesion,
        index=torch.arange(n),
    )


def share(figure: object) -> float:
    return figure.hits / figure.n  # type: ignore[attr-defined]


def test_accuracy_sensitivity_and_lesion_rates() -> None:
    clean, attacked = predicted([[1, 1, 0, 1]]), predicted([[0, 1, 1, 1]])
    found = Classification().compute(outcome(clean, attacked, labels=[1, 1, 0, 0]))
    assert share(found["clean_accuracy"]) == 0.75
    assert share(found["robust_accuracy"]) == 0.25
    assert share(found["clean_sensitivity"]) == 1.0
    assert share(found["clean_specificity"]) == 0.5
    assert share(found["hidden_lesion_rate"]) == 0.5
    assert share(found["fake_lesion_rate"]) == 1.0
    # Of the three images that were right before, the attack turned two.
    assert (found["attack_success"].hits, found["attack_success"].n) == (2, 3)


def test_draws_give_mean_majority_and_any_of_n() -> None:
    attacked = predicted([[1, 1], [1, 0], [0, 1]])
    found = Classification().compute(outcome(predicted([[1, 1]] * 3), attacked, labels=[1, 1]))
    assert share(found["robust_accuracy"]) == pytest.approx(4 / 6)
    assert share(found["robust_majority"]) == 1.0
    assert share(found["robust_any_of_n"]) == 0.0


def test_rejection_protects_under_attack_and_costs_when_clean() -> None:
    rejected = {"rejected": torch.tensor([[True, False]])}
    found = Classification().compute(outcome(predicted([[1, 1]], **rejected), predicted([[0, 1]], **rejected), [1, 1]))
    assert share(found["clean_accuracy"]) == 0.5
    assert share(found["robust_accuracy"]) == 1.0


def test_detector_figures() -> None:
    clean = predicted([[0, 0, 0, 0]], [[False, False, False, True]], scores=torch.tensor([[0.1, 0.2, 0.3, 0.6]]))
    attacked = predicted([[1, 0, 1, 0]], [[True, True, False, False]], scores=torch.tensor([[0.9, 0.8, 0.5, 0.05]]))
    found = Detection().compute(outcome(clean, attacked, labels=[0, 0, 0, 0]))
    assert share(found["detector_fpr"]) == 0.25
    assert share(found["detector_tpr"]) == 0.5
    assert found["detector_auroc"] == pytest.approx(11 / 16)
    assert share(found["undetected_and_wrong"]) == 0.25


def test_no_detector_no_figures() -> None:
    assert Detection().compute(outcome(predicted([[0]]), predicted([[0]]), labels=[0])) == {}


def test_purification_figures() -> None:
    found = Purification().compute(outcome(predicted([[0, 0]]), predicted([[0, 0]], [[True, False]]), labels=[0, 0]))
    assert share(found["attacked_changed"]) == 0.5
    assert found["purified_rmse"] == pytest.approx(0.1)


def test_reports_render_a_table() -> None:
    table = pd.DataFrame({"defense": ["a_b"], "robust_accuracy": [-0.123456], "worst_client": [None]})
    assert Markdown().render(table).splitlines()[2] == "| a_b | -0.1235 |  |"
    assert CSV().render(table).splitlines() == ["defense,robust_accuracy,worst_client", "a_b,-0.123456,"]


@pytest.mark.parametrize(
    "text", ["a|b", "<img src=x>", "[a](javascript:b)", "www.a.org", "a\n\n# b", "\u202eab", "`x`"]
)
def test_a_report_is_a_table_whatever_records_hold(text: str) -> None:
    shown = Markdown().render(pd.DataFrame({text: [text]}))
    assert len(shown.splitlines()) == 3
    assert all(line.count("|") == 2 for line in shown.splitlines())
    assert not set("<>[]`\u202e#") & set(shown.replace("&#", ""))
    assert "www." not in shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "\uff20a"])
def test_a_report_as_csv_holds_no_formula(text: str) -> None:
    cells = [cell for line in CSV().render(pd.DataFrame({text: [text]})).splitlines() for cell in line.split(",")]
    assert [cell[:1] for cell in cells] == ["'", "'"]


def test_seeds_are_averaged_and_everything_else_stays_apart(measured) -> None:
    bounds = {"robust_accuracy_low": 0.4, "robust_accuracy_high": 0.6, "patients": 20}
    wider = {"robust_accuracy_low": 0.1, "robust_accuracy_high": 0.5}
    cell = partial(measured, defense_params="", strategy="fedavg", n=50, **bounds)
    table = [
        cell(),
        cell(train_seed=1, clean_accuracy=0.1),  # measured again below
        cell(train_seed=1, clean_accuracy=0.8, robust_accuracy=0.3, robust_worst=0.1, **wider),
        cell(strategy="ditto", strategy_params="lam=1"),
        cell(unseen="h4", clean_worst=None, robust_worst=None),
        cell(status="failed", train_seed=2, clean_accuracy=None, robust_accuracy=None),
    ]
    text = Seeds().render(pd.DataFrame(table))
    head, _, *lines = map(split, text.splitlines())
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [(r["data set"], r["strategy"], r["seeds"]) for r in rows] == [
        ("d", "fedavg", "2"),
        ("d", "ditto:lam=1", "1"),
        ("d unseen h4", "fedavg", "1"),
    ]
    first = rows[0]
    assert (first["clean"], first["clean range"], first["worst clean"]) == ("85.0", "80.0 to 90.0", "80.0")
    assert (first["robust"], first["robust range"], first["worst robust"]) == ("40.0", "30.0 to 50.0", "25.0")
    assert (first["95 %"], first["images/patients"]) == ("[10.0, 60.0]", "50/20")
    assert first["attack"] == "apgd:steps=5 oblivious linf 0.01"
    assert (rows[2]["worst clean"], rows[2]["worst robust"]) == ("", "")


#: What a run may ask for, and two answers to it.
QUESTIONS = {
    "dataset_params": ("folds=5,fold=0", "folds=5,fold=1"),
    "client": ("a", "b"),
    "goal": ("hide-lesion", "fake-lesion"),
    "finding": ("Mass", "Effusion"),
    "budget": ("", "at most 9 gradients"),
    "draws": (1, 10),
    "eot": (1, 20),
    "training": ("model=resnet", "model=vit"),
}
#: The second cell's figure in each report.
SECOND = {Seeds: "33.0 to 33.0", Detectors: "| 33.0 |", Corruptions: "| 67.0 |"}


@pytest.mark.parametrize("column", QUESTIONS)
@pytest.mark.parametrize("report", [Seeds, Detectors, Corruptions])
def test_cells_that_were_asked_something_else_are_not_taken_for_older_results(measured, report, column: str) -> None:
    more = {"norm": "corruption", "attack_params": "jpeg", "eps": 1.0} if report is Corruptions else {}
    more |= {"clean_balanced_accuracy": 0.9, "robust_balanced_accuracy": 0.5}
    first, second = (measured(**{column: value}, **more) for value in QUESTIONS[column])
    other = second | {"robust_accuracy": 0.33, "robust_balanced_accuracy": 0.33}
    text = report().render(pd.DataFrame([first, other]))
    averaged = report is Corruptions and column in ("budget", "draws", "eot")  # over all attackers, as over rungs
    assert all(share in text for share in (["58.5"] if averaged else [" 50.0", SECOND[report]])), text


def split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
