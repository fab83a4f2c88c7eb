"""Figures of multi-label and ordinal tasks, beside those of scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, f1_score, mean_absolute_error, roc_auc_score

from rbmed_metrics.classification import Classification
from rbmed_metrics.tasks import Findings, Grades, quadratic_kappa
from robustbench_med import Outcome, Predictions, RungResult

NAMES = ("Effusion", "Mass", "Nodule")


def codes(held: torch.Tensor) -> torch.Tensor:
    return (held.long() << torch.arange(held.shape[-1])).sum(-1)


def answers(predictions: torch.Tensor, logits: torch.Tensor | None = None) -> Predictions:
    none = torch.zeros_like(predictions, dtype=torch.bool)
    unknown = torch.full(predictions.shape, torch.nan)
    return Predictions(predictions, none, none, unknown, none, torch.zeros(predictions.shape), logits)


def outcome(
    labels: torch.Tensor, clean: Predictions, attacked: Predictions, task: str, classes: tuple[str, ...]
) -> Outcome:
    n = len(labels)
    return Outcome(
        labels=labels,
        sites=("a",) * n,
        patients=tuple(map(str, range(n))),
        clean=clean,
        attacked=attacked,
        distances=torch.zeros(n),
        num_classes=len(classes),
        lesion_class=None,
        index=torch.arange(n),
        rungs=(RungResult.empty("none", "oblivious", n),),
        task=task,  # type: ignore[arg-type]
        classes=classes,
    )


@pytest.fixture
def findings() -> tuple[Outcome, torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    truth = torch.rand(200, 3, generator=chance) < torch.tensor([0.3, 0.1, 0.5])
    logits = torch.randn(200, 3, generator=chance) + 2 * truth - 1
    clean, attacked = (answers(codes(z > 0)[None], z[None]) for z in (logits, logits - 0.5))
    return outcome(codes(truth), clean, attacked, "multi-label", NAMES), truth, logits


def test_figures_of_findings_are_those_of_scikit_learn(findings: tuple[Outcome, torch.Tensor, torch.Tensor]) -> None:
    made, truth, logits = findings
    found = Findings().compute(made)
    for side, z in (("clean", logits), ("robust", logits - 0.5)):
        assert found[f"{side}_macro_auc"] == pytest.approx(roc_auc_score(truth, z, average="macro"))
        assert found[f"{side}_macro_f1"] == pytest.approx(f1_score(truth, z > 0, average="macro"))
        assert found[f"{side}_finding_accuracy"] == pytest.approx(float(((z > 0) == truth).float().mean()))
        for number, name in enumerate(NAMES):
            expected = balanced_accuracy_score(truth[:, number], z[:, number] > 0)
            assert found[f"{side}_balanced_accuracy: {name}"] == pytest.approx(expected)
    rate = Classification().compute(made)["clean_accuracy"]
    assert rate.hits == int(((logits > 0) == truth).all(1).sum())  # every finding right


def test_findings_that_no_image_has_withheld_answers_and_those_that_are_not_finite() -> None:
    truth = torch.tensor([[1, 0], [0, 0], [1, 0]]).bool()
    logits = torch.tensor([[2.0, -1.0], [-1.0, -1.0], [torch.nan, 0.0]])
    given = codes(logits > 0)
    given[2] = -2
    plain = answers(given[None], logits[None])
    found = Findings().compute(outcome(codes(truth), plain, plain, "multi-label", NAMES[:2]))
    assert found["clean_auc: Mass"] is None
    assert found["clean_auc: Effusion"] == pytest.approx(0.5)  # of two with the finding, one ranks last
    assert found["clean_finding_accuracy"] == pytest.approx(4 / 6)
    withheld = replace(plain, rejected=torch.tensor([[False, False, True]]))
    found = Findings().compute(outcome(codes(truth), withheld, withheld, "multi-label", NAMES[:2]))
    assert found["clean_finding_accuracy"] == pytest.approx(4 / 6)
    assert found["robust_finding_accuracy"] == 1
    assert found["robust_auc: Effusion"] == 1


def test_figures_of_grades_are_those_of_scikit_learn() -> None:
    chance = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (100,), generator=chance)
    given = (labels + torch.randint(-2, 3, (100,), generator=chance)).clamp(0, 4)
    far = torch.where(labels < 2, 4, 0)
    made = outcome(labels, answers(given[None]), answers(far[None]), "ordinal", tuple("01234"))
    found = Grades().compute(made)
    assert found["clean_mean_absolute_error"] == pytest.approx(mean_absolute_error(labels, given))
    assert found["clean_quadratic_kappa"] == pytest.approx(cohen_kappa_score(labels, given, weights="quadratic"))
    assert found["robust_mean_absolute_error"] > found["clean_mean_absolute_error"]
    assert found["robust_quadratic_kappa"] < 0
    assert found["robust_off_by_more_than_one"].hits == int(((far - labels).abs() > 1).sum())
    assert quadratic_kappa(labels[:0], labels[:0], 5) is None
    assert quadratic_kappa(torch.zeros(3).long(), torch.zeros(3).long(), 5) is None


def test_an_answer_that_is_not_finite_is_as_far_off_as_can_be() -> None:
    lost = answers(torch.tensor([[-2, -2]]))
    found = Grades().compute(outcome(torch.tensor([1, 4]), lost, lost, "ordinal", tuple("01234")))
    assert found["clean_mean_absolute_error"] == 3.5


def test_other_tasks_have_none_of_these_figures() -> None:
    plain = answers(torch.tensor([[0, 1]]))
    made = outcome(torch.tensor([0, 1]), plain, plain, "multi-class", ())
    assert Findings().compute(made) == Grades().compute(made) == {}
