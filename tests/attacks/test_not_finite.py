"""Answers, scores and pixels that are not finite: wrong in every column, and flagged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.attacks import accuracy, run, rung, settings
from helpers.sanity import GATE, THREAT, N, Net, Rough, Smooth, figures, flags, images, labels, looked_at
from torch import Tensor

from robustbench_med.defenses.gates import fix_gate
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.errors import UsageError
from robustbench_med.interfaces.defense import Purifier, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import NOT_FINITE
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.leaderboard.render.page.confusion import confusion
from robustbench_med.leaderboard.sources.image_results import dumped, parse
from robustbench_med.leaderboard.sources.samples import from_samples
from robustbench_med.records import samples


def dead() -> Net:
    net = Net()
    for weight in net.parameters():
        weight.data.fill_(torch.nan)
    return net


def test_a_net_of_nan_is_wrong_everywhere_and_says_so() -> None:
    found = looked_at(Pipeline(dead()))
    assert {"not-finite", "weights-not-finite", "clean-at-chance"} <= set(found["flags"])
    assert found["figures"]["not_finite_clean"] == found["figures"]["not_finite_attacked"] == 1
    assert f"{N} of {N} answers to clean images are not finite" in found["notes"]
    assert "not finite: classifier.first, classifier.second" in found["notes"]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_any_logit_that_is_not_finite_makes_the_answer_wrong(bad: float, column: int) -> None:
    def some(logits: Tensor, x: Tensor) -> Tensor:
        hit = (x.flatten(1)[:, 0] < 0.25)[:, None] & (torch.arange(2) == column)
        return torch.where(hit, bad, logits)

    x = images()
    y, hit = labels(x), x.flatten(1)[:, 0] < 0.25
    outcome = run(Pipeline(Net(some)), x, y, settings(rung("oblivious", "clamp"), threat=THREAT))
    assert torch.equal(outcome.clean.correct(y)[0], ~hit)
    assert torch.equal(outcome.clean.predictions[0] == NOT_FINITE, hit)
    assert not outcome.attacked.robust(y)[0][outcome.attacked.not_finite[0]].any()
    assert flags(Pipeline(Net(some))) == {"not-finite"}


class Broken(Rough):
    """NaN for bright first pixels."""

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return torch.where(x.flatten(1)[:, 0] > 0.5, torch.nan, super().score(x, system, rng))


@pytest.mark.parametrize("purifier", [Smooth(), None])
def test_a_score_that_is_nan_is_wrong_in_every_column(purifier: Purifier | None) -> None:
    x = images()
    y, hit = labels(x), x.flatten(1)[:, 0] > 0.5
    pipeline = Pipeline(Net(), Broken(), purifier, GATE)
    outcome = run(pipeline, x, y, settings(rung("oblivious", "clamp"), threat=ThreatModel(eps=1e-6)))
    assert torch.equal(outcome.clean.not_finite[0], hit)
    assert not outcome.attacked.robust(y)[0][hit].any()
    found = figures(outcome)
    sound = run(Pipeline(Net(), Rough(), purifier, GATE), x, y, settings(rung("oblivious", "clamp"), threat=THREAT))
    assert found["detector_fpr"] >= float(hit.double().mean()) > figures(sound)["detector_fpr"]
    assert found["detector_tpr"] <= 1 - float(hit.double().mean())
    assert found["detector_auroc"] < 0.5
    assert found["fake_lesion_rate"] >= float(hit[y == 0].double().mean())
    assert found["hidden_lesion_rate"] >= float(hit[y == 1].double().mean())
    assert "not-finite" in flags(pipeline)


def test_a_detector_of_nan_alone_is_no_missing_detector() -> None:
    class Blind(Rough):
        def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
            return torch.full((len(x),), torch.nan)

    x = images()
    outcome = run(
        Pipeline(Net(), Blind(), Smooth(), GATE), x, labels(x), settings(rung("oblivious", "clamp"), threat=THREAT)
    )
    found = figures(outcome)
    assert (found["clean_accuracy"], found["robust_accuracy"]) == (0, 0)
    assert (found["detector_auroc"], found["detector_fpr"], found["detector_tpr"]) == (0, 1, 0)


def test_an_infinite_score_is_a_decision() -> None:
    class Far(Rough):
        def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
            return torch.where(x.flatten(1)[:, 0] > 0.5, torch.inf, -torch.inf)

    assert "not-finite" not in flags(Pipeline(Net(), Far(), Smooth(), GATE))


def test_a_purifier_of_nan_is_seen_behind_a_classifier_that_hides_it() -> None:
    class Lost(Smooth):
        def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
            return torch.where(x > 0.99, torch.nan, x)

    hides = Net(lambda logits, x: logits.nan_to_num(0, 0, 0))
    x = images()
    outcome = run(Pipeline(hides, None, Lost()), x, labels(x), settings(rung("oblivious", "clamp"), threat=THREAT))
    assert torch.equal(outcome.clean.not_finite[0], (x > 0.99).flatten(1).any(1))


def test_an_abstention_is_an_answer_whatever_the_classifier_says() -> None:
    x = images()
    pipeline = Pipeline(dead(), Rough(), None, Gate(threshold=-1.0, low=-2.0, high=0.0))
    outcome = run(pipeline, x, labels(x), settings(rung("oblivious", "clamp"), threat=THREAT))
    assert accuracy(outcome) == 1
    assert not outcome.attacked.not_finite.any()
    assert not outcome.clean.correct(outcome.labels).any()


def test_results_of_each_image_keep_what_is_not_finite(tmp_path: Path) -> None:
    x = images()
    y = labels(x)
    outcome = run(Pipeline(dead()), x, y, settings(rung("oblivious", "clamp"), threat=THREAT))
    samples.write(outcome, tmp_path / "cell.parquet")
    kept = from_samples(tmp_path / "cell.parquet")
    again = parse(dumped(kept))
    assert set(again.attacked.ravel()) == {NOT_FINITE}
    assert (again.correct.sum(), again.robust.sum()) == (0, 0)
    table = confusion("Clean", [(again.labels, again.clean)], ["no", "yes"])
    assert list(table.answers) == ["no", "yes", "not finite"]
    assert [row[-1].text for _, row in table.rows] == [str(int((y == label).sum())) for label in range(2)]
    with pytest.raises(ValueError, match="a label is no class"):
        parse('{"cell_id": "a", "index": "0", "labels": "?", "clean": ["?"], "attacked": ["?"]}')


def test_a_gate_is_fixed_on_the_scores_that_are_finite() -> None:
    scores = torch.tensor([0.1, torch.nan, 0.3, torch.inf, 0.2])
    assert fix_gate(scores, 0.05) == fix_gate(torch.tensor([0.1, 0.3, 0.2]), 0.05)
    with pytest.raises(UsageError, match="none of the detector's 3 scores"):
        fix_gate(torch.full((3,), torch.nan), 0.05)
