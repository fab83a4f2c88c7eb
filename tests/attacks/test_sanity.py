"""Flags on the deployed system itself: each broken net raises its flag, and a healthy one raises none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.attacks import REGISTRY, accuracy, examined, run, rung, settings
from torch import Tensor, nn

from robustbench_med.attacks import huge_eps
from robustbench_med.attacks.controls import Controls
from robustbench_med.attacks.diagnostics import report
from robustbench_med.attacks.sanity import bad_tensors
from robustbench_med.defenses.deployment import fix_gate
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.errors import UsageError
from robustbench_med.interfaces import Classifier, Detector, Purifier, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import NOT_FINITE, Outcome
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.leaderboard.render.page.confusion import confusion
from robustbench_med.leaderboard.sources.image_results import dumped, from_samples, parse
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse as read
from robustbench_med.records import samples
from robustbench_med.records.record import flatten

THREAT = ThreatModel(eps=0.05)
N = 48
SANITY = {"not-finite", "weights-not-finite", "constant-answer", "clean-at-chance", "batch-dependent", "class-absent"}


class Net(Classifier):
    """Two smooth layers on 8 x 8 images, with something done to its answer."""

    def __init__(self, after: Callable[[Tensor, Tensor], Tensor] = lambda logits, x: logits) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(16, 64, generator=generator) / 8)
        self.second = nn.Parameter(torch.randn(2, 16, generator=generator))
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.tanh(4 * (x.flatten(1) - 0.5) @ self.first.T) @ self.second.T, x)


def images(n: int = N) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def labels(x: Tensor) -> Tensor:
    return Net()(x).argmax(1)


def looked_at(pipeline: Pipeline, y: Tensor | None = None, **more: Any) -> dict[str, Any]:
    x = images()
    how = settings(rung("oblivious", "apgd:steps=5"), threat=THREAT, **more)
    return examined(pipeline, x, labels(x) if y is None else y, how)


def flags(pipeline: Pipeline, y: Tensor | None = None) -> set[str]:
    return SANITY & set(looked_at(pipeline, y)["flags"])


def figures(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in REGISTRY.entries("metric"):
        found |= create(REGISTRY, "metric", read(entry.qualified)).compute(outcome)
    return flatten(found)[0]


class Smooth(Purifier):
    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Noisy(Smooth):
    stochastic = True

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return (x + 0.01 * rng.normal(tuple(x.shape))).clamp(0, 1)


class Rough(Detector):
    stochastic = False

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return (x - nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).square().flatten(1).mean(1)


GATE = Gate(threshold=0.08, low=0.0, high=0.1)


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(Net()),
        Pipeline(Net(), None, Noisy()),
        Pipeline(Net(), Rough(), Noisy(), GATE),
        Pipeline(Net(), Rough(), None, GATE),
    ],
    ids=["bare", "noise", "gate", "rejects"],
)
def test_a_healthy_system_raises_none(pipeline: Pipeline) -> None:
    assert flags(pipeline) == set()


# --- answers that are not finite ---


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


# --- the task was not learned ---


def test_a_constant_answer() -> None:
    always = Net(lambda logits, x: torch.tensor([[1.0, 0.0]]).expand(len(x), 2) + 0 * logits)
    assert {"constant-answer", "clean-at-chance"} <= flags(Pipeline(always))
    # Right for images of one class only.
    assert "constant-answer" not in flags(Pipeline(always), torch.zeros(N, dtype=torch.int64))


def test_a_constant_answer_of_one_client_only() -> None:
    x = images()
    y = labels(x)
    outcome = run(Pipeline(Net()), x, y, settings(rung("oblivious", "clamp"), threat=THREAT))
    half = torch.arange(N) < N // 2
    answers = torch.where(half, 1, outcome.clean.predictions)
    outcome = replace(
        outcome,
        sites=tuple("a" if first else "b" for first in half.tolist()),
        clean=replace(outcome.clean, predictions=answers),
    )
    assert SANITY & set(report("cheap", outcome, {}, Controls(), 0.0)["flags"]) == {"constant-answer"}


def test_clean_accuracy_at_chance() -> None:
    y = labels(images())
    assert flags(Pipeline(Net(lambda logits, x: -logits)), y) == {"clean-at-chance"}
    # Three of four images have class 1, and so many are answered rightly.
    most = (torch.arange(N) % 4 > 0).long()
    guesses = Net(lambda logits, x: nn.functional.one_hot((x.flatten(1)[:, 0] < 0.5).long(), 2) + 0.0 * logits)
    assert "clean-at-chance" in flags(Pipeline(guesses), most)


def test_a_class_without_images() -> None:
    zeros = torch.zeros(N, dtype=torch.int64)
    assert "class-absent" in flags(Pipeline(Net()), zeros)
    pipeline = Pipeline(Net(), Rough(), Smooth(), replace(GATE, absent=(1,)))
    found = looked_at(pipeline)
    assert "class-absent" in found["flags"]
    assert "no calibration image of class 1 at here" in found["notes"]
    x = images()
    outcome = run(Pipeline(Net()), x, zeros, settings(rung("oblivious", "clamp"), threat=THREAT))
    assert "class-absent" not in report("cheap", outcome, {}, Controls(), 0.0, "fake-lesion")["flags"]


def test_weights_that_are_not_finite() -> None:
    net = Net()
    net.second.data[0, 0] = torch.inf
    assert "weights-not-finite" in flags(Pipeline(net))
    masked = Net()
    masked.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert bad_tensors(Pipeline(masked)) == []
    masked.register_buffer("mean", torch.tensor([0.0, torch.nan]))
    assert bad_tensors(Pipeline(masked)) == ["classifier.mean"]


# --- answers that depend on the batch ---


class Batched(Classifier):
    """A batch-norm that always takes the statistics of the batch, as a net in training mode does."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 64, generator=generator))
        self.norm = nn.BatchNorm2d(1, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x).flatten(1) @ self.weight.T


class Training(Net):
    """Is put into training mode whenever it is called; a single image it cannot answer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x: Tensor) -> Tensor:
        self.norm.train()
        return super().forward(self.norm(x.flatten(1)).view_as(x) / 6 + 0.5)


class Scaled(Rough):
    """Scores scaled to the range of the batch, as published code does."""

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        scores = super().score(x, system, rng)
        return (scores - scores.min()) / (scores.max() - scores.min() + 1e-12)


class Compared(Net):
    """Compares each image with the first one of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - super().forward(x[:1])


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(Batched()),
        Pipeline(Training()),
        Pipeline(Compared()),
        Pipeline(Net(), Scaled(), Smooth(), replace(GATE, threshold=0.5)),
    ],
    ids=["statistics", "training", "first", "detector"],
)
def test_answers_that_depend_on_the_batch(pipeline: Pipeline) -> None:
    x = images()
    y = pipeline(x, Stream.named("scoring", 0, torch.arange(N))).argmax(1)
    assert "batch-dependent" in flags(pipeline, y)


def test_noise_that_follows_the_batch_is_not_taken_for_it() -> None:
    class Declared(Net):
        stochastic = True

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0.1 * torch.randn(len(x), 2)

    class Hidden(Declared):
        stochastic = False

    assert "batch-dependent" not in looked_at(Pipeline(Declared()))["flags"]
    found = looked_at(Pipeline(Hidden()))["flags"]
    assert "unstable" in found
    assert "batch-dependent" not in found


# --- the control at a huge eps ---


def test_images_at_a_huge_eps_are_spread_over_clients_and_rungs() -> None:
    rungs = [rung("oblivious", "apgd"), rung("bpda", "apgd"), rung("full", "apgd"), rung("query", "square")]
    assert [access.access for access in huge_eps.gradient_rungs(rungs)] == ["full", "bpda", "oblivious"]
    four = [16, 16, 16, 16]
    assert [len(part) for part in huge_eps.numbers(four, rungs)] == [1, 1, 1, 1]
    assert [list(part) for part in huge_eps.numbers(four, rungs[:1])] == [[0], [1], [2], [3]]
    # The cost stays bounded: 5 % of the images, or what spreading needs, at most 10 % of what the cell attacks.
    assert sum(map(len, huge_eps.numbers([3, 3, 3, 3], rungs[:1]))) == 2
    assert sum(map(len, huge_eps.numbers([3, 3, 3, 3], rungs))) == 4
    assert sum(map(len, huge_eps.numbers([80] * 4, rungs))) == 16
    assert sum(map(len, huge_eps.numbers([320], rungs))) == 16
    assert huge_eps.numbers([5, 5], rungs[3:]) == [range(0), range(0)]
    assert sum(map(len, huge_eps.numbers([1], rungs))) == 1


def test_a_rung_whose_gradient_is_dead_is_found_beside_one_that_works() -> None:
    class NoWay(Smooth):
        """Its exact gradient points nowhere."""

        def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
            smooth = super().purify(x, strength, rng)
            return smooth.detach() + 0 * smooth

    x = images()
    pipeline = Pipeline(Net(), None, NoWay())
    y = pipeline(x, Stream.named("scoring", 0, torch.arange(N))).argmax(1)
    works, dead_end = rung("oblivious", "apgd:steps=10"), rung("full", "apgd:steps=10")
    assert "survives-huge-eps" not in examined(pipeline, x, y, settings(works, threat=THREAT))["flags"]
    found = examined(pipeline, x, y, settings(works, dead_end, threat=THREAT))
    assert "survives-huge-eps" in found["flags"]
    assert any("withstood full apgd:steps=10" in note for note in found["notes"])
