"""The standard ladder at its own budget on systems whose worst case is known: it finds it, and from the right rung."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.attacks import REGISTRY, accuracy, examined, run, settings
from helpers.toys import Linear
from torch import Tensor

from robustbench_med.attacks.rung import Rung, resolve_rung
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.grid.ladder import PRESETS
from robustbench_med.interfaces.defense import Detector, Purifier, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import Outcome
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.interfaces.training import Classifier

N, EPS = 40, 0.08
THREAT = ThreatModel(eps=EPS)
NET = Linear()
#: What a step towards the second class adds to its margin.
DIRECTION = (NET.weight[1] - NET.weight[0]).detach()


def standard(systems: str, *accesses: str) -> list[Rung]:
    """The rungs of the standard ladder for systems of this kind, of these accesses."""
    refs = PRESETS["standard"].rungs
    return [resolve_rung(REGISTRY, ref) for ref in refs if ref.systems in ("any", systems) and ref.access in accesses]


def images(scale: float = 0.3) -> Tensor:
    return 0.5 + scale * (torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(1)) - 0.5)


def margins(x: Tensor) -> Tensor:
    """How far the images (N, 1, 4, 4) are from a wrong answer of `NET`, (N,)."""
    return ((x - 0.5).flatten(1) @ DIRECTION).abs()


def left(outcome: Outcome, access: str) -> float:
    """Robust share after the last rung of this access."""
    return [float(rung.robust.mean()) for rung in outcome.rungs if rung.access == access][-1]


def test_the_query_rung_exposes_a_masked_gradient() -> None:
    class Stairs(Classifier):
        """Logits in steps: their gradient is zero everywhere, their values say where to go."""

        def forward(self, x: Tensor) -> Tensor:
            logits = NET(x)
            return (logits * 50).round() / 50 + 0 * logits

    x = images(0.9)
    y = NET(x).argmax(1)
    broken = margins(x) < EPS * DIRECTION.abs().sum() - 0.05
    assert 0.5 < broken.float().mean() < 1
    how = settings(*standard("static", "oblivious", "query"), threat=THREAT)
    outcome = run(Pipeline(Stairs()), x, y, how)
    assert left(outcome, "oblivious") > 0.8  # only the random start breaks anything
    found = (outcome.attacked.predictions[0] != y).float()
    assert found[broken].mean() > 0.4  # Square never moves the last row and column by itself
    flags = examined(Pipeline(Stairs()), x, y, how)["flags"]
    assert {"zero-gradients", "black-box-wins"} <= set(flags)


def test_the_boundary_rung_evades_a_detector_that_compares_two_answers() -> None:
    class Consistency(Detector):
        """Difference of the answers to an image and to its rounded copy, which is the clean image; no gradient."""

        stochastic = False

        def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
            with torch.no_grad():
                copy = ((x - 0.5) * 4).round() / 4 + 0.5
                return (system.classifier(x).softmax(1) - system.classifier(copy).softmax(1)).abs().amax(1)

    x = ((images(1.0) - 0.5) * 4).round() / 4 + 0.5
    y = NET(x).argmax(1)
    near = margins(x) < 0.5 * EPS * DIRECTION.abs().sum()  # the attack reaches far beyond the boundary
    x, y = x[near & (margins(x) > 0.1)], y[near & (margins(x) > 0.1)]
    assert len(x) >= 8
    confident = NET(x).detach().softmax(1).amax(1)
    gate = Gate(threshold=float(confident.max() - 0.45), low=0.0, high=1.0)
    pipeline = Pipeline(NET, Consistency(), None, gate)
    outcome = run(pipeline, x, y, settings(*standard("static", "oblivious", "boundary"), threat=THREAT))
    assert left(outcome, "oblivious") > 0.7
    assert left(outcome, "boundary") == 0
    assert not outcome.attacked.flagged.any()


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_noise_hides_a_linear_classifier_only_as_far_as_it_must(sigma: float) -> None:
    class Gauss(Purifier):
        bounded, stochastic = False, True

        def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
            return x + sigma * rng.normal(tuple(x.shape))

    x = images()
    y = NET(x).argmax(1)
    # The worst image lies in the corner of the ball, and the noise on its margin is normal.
    gap = (margins(x) - EPS * DIRECTION.abs().sum()) / (sigma * DIRECTION.norm())
    exact = float(torch.special.ndtr(gap).mean())
    clean = float(torch.special.ndtr(margins(x) / (sigma * DIRECTION.norm())).mean())
    assert clean - exact > 0.2
    rungs = standard("random", "oblivious", "bpda", "full", "query")
    outcome = run(Pipeline(NET, None, Gauss()), x, y, settings(*rungs, threat=THREAT, draws=256))
    assert accuracy(outcome) == pytest.approx(exact, abs=0.03)


def test_a_rejecting_system_is_broken_exactly_where_a_confident_wrong_answer_exists() -> None:
    class MaxSoftmax(Detector):
        """One minus the confidence, which is a function of the margin: no direction is orthogonal to it."""

        stochastic = False

        def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
            logits: Tensor = system.classifier(x)
            return 1 - logits.softmax(1).amax(1)

    x, least = images(), 0.6  # the margin that an answer needs to be given
    y = NET(x).argmax(1)
    threshold = 1 / (1 + math.exp(least))
    pipeline = Pipeline(NET, MaxSoftmax(), None, Gate(threshold, threshold / 2, 1.0))
    gap = EPS * DIRECTION.abs().sum() - margins(x) - least
    sure = gap.abs() > 1e-3
    assert 0.2 < (gap > 0).float().mean() < 0.9
    outcome = run(pipeline, x, y, settings(*standard("static", "gate"), threat=THREAT))
    broken = ~outcome.attacked.robust(y)[0]
    assert torch.equal(broken[sure], (gap > 0)[sure])
