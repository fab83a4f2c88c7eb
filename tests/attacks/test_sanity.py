"""Flags on the deployed system itself: each broken net raises its flag, and a healthy one raises none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.attacks import examined, run, rung, settings
from helpers.sanity import GATE, SANITY, THREAT, N, Net, Noisy, Rough, Smooth, flags, images, labels, looked_at
from torch import Tensor, nn

from robustbench_med.attacks import huge_eps
from robustbench_med.attacks.controls import Controls
from robustbench_med.attacks.diagnostics import report
from robustbench_med.attacks.sanity import bad_tensors
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import WeightsChanged
from robustbench_med.interfaces.defense import System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.training import Classifier


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
        Pipeline(Compared()),
        Pipeline(Net(), Scaled(), Smooth(), replace(GATE, threshold=0.5)),
    ],
    ids=["statistics", "first", "detector"],
)
def test_answers_that_depend_on_the_batch(pipeline: Pipeline) -> None:
    x = images()
    y = pipeline(x, Stream.named("scoring", 0, torch.arange(N))).argmax(1)
    assert "batch-dependent" in flags(pipeline, y)


def test_a_network_that_changes_itself_is_refused() -> None:
    with pytest.raises(WeightsChanged, match="a network in evaluation mode must not change itself"):
        flags(Pipeline(Training()))


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


def test_an_attack_that_only_steps_too_far_at_a_huge_eps_is_believed() -> None:
    """Of noise the net is sure that it is of class 0, with no way back: so is one that was trained on ultrasound."""

    def sure_of_noise(logits: Tensor, x: Tensor) -> Tensor:
        noise = (x - 0.5).abs().flatten(1).mean(1) > 0.3
        return torch.where(noise[:, None], torch.tensor([[30.0, -30.0]]) + 0 * logits, logits)

    x = 0.5 + 0.2 * (images() - 0.5)
    x = x[Net()(x).argmax(1) == 0]
    pipeline, y = Pipeline(Net(sure_of_noise)), torch.zeros(len(x), dtype=torch.int64)
    report = examined(pipeline, x, y, settings(rung("oblivious", "apgd:steps=10"), threat=THREAT))
    assert "survives-huge-eps" not in report["flags"]
    assert report["figures"]["withstood_huge_eps"] == 0
    far = replace(THREAT, eps=1.0)
    alone = run(pipeline, x, y, settings(rung("oblivious", "apgd:steps=10"), threat=far))
    assert alone.attacked.robust(y).float().mean() > 0.5


# --- answers that depend on who asks ---


def scored() -> bool:
    return torch.is_inference_mode_enabled()


class Twofold(Smooth):
    """Purifies the images that are scored only."""

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return super().purify(x, strength, rng) if scored() else 1 - x


class Alarmed(Rough):
    """A score of 0 for all that a gradient is asked of."""

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return super().score(x, system, rng) * (not torch.is_grad_enabled())


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(Net(lambda logits, x: logits if scored() else -logits)),
        Pipeline(Net(lambda logits, x: -logits if x.requires_grad else logits)),
        Pipeline(Net(), None, Twofold()),
        Pipeline(Net(), Alarmed(), Smooth(), GATE),
    ],
)
def test_another_system_under_attack(pipeline: Pipeline) -> None:
    found = looked_at(pipeline)
    assert "mode-dependent" in found["flags"]
    assert found["figures"]["mode_dependent"] == 1


@pytest.mark.parametrize(
    "pipeline",
    [Pipeline(Net()), Pipeline(Net(), None, Noisy()), Pipeline(Net(), Rough(), None, GATE)],
)
def test_one_system_for_all(pipeline: Pipeline) -> None:
    found = looked_at(pipeline)
    assert "mode-dependent" not in found["flags"]
    assert found["figures"]["mode_dependent"] == 0


def test_a_system_that_gives_no_gradient_is_noted() -> None:
    def refuse(logits: Tensor, x: Tensor) -> Tensor:
        if x.requires_grad and len(x) == 4:
            raise RuntimeError("no gradient here")
        return logits

    found = looked_at(Pipeline(Net(refuse)))
    assert any("no answer outside inference mode: " in note for note in found["notes"])
