"""Randomized smoothing of linear nets, whose smoothed answers and radii are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.attacks import REGISTRY, run, rung, settings
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from robustbench_med.certification.settings import Certification
from robustbench_med.certification.smoothing import certify, predict, tally
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.defense import Purifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import NOT_FINITE, Outcome
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.interfaces.training import Classifier
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse
from robustbench_med.records.sections.certified import CertifiedSection

SIZE, N, SIGMA = 4, 12, 0.3
HOW = Certification(n0=200, n=20_000, alpha=0.001)
DIRECTION = torch.randn(SIZE * SIZE, generator=torch.Generator().manual_seed(0))
DIRECTION /= DIRECTION.norm()
#: Where the images lie along the direction.
PLACES = torch.linspace(-0.75, 0.75, N)
IMAGES = 0.5 + (PLACES[:, None] * DIRECTION).view(N, 1, SIZE, SIZE)
EDGE = 0.25


class Noise(Purifier):
    """Gaussian noise, as it is; ``claimed`` is the sigma that it declares."""

    def __init__(self, sigma: float = SIGMA, claimed: float | None = None) -> None:
        super().__init__()
        self.sigma = claimed or sigma
        self.true, self.votes = sigma, 16

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return x + self.true * rng.normal(tuple(x.shape))

    def copies(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        n = self.votes
        return self.purify(x.repeat_interleave(n, 0), strength, rng.repeat(n)).view(len(x), n, *x.shape[1:])

    def join(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(2).logsumexp(1)


class Intervals(Classifier):
    """Linear logits whose classes are intervals of t, the place along the direction.

    Of two classes the edge is 0; of three, the middle one reaches from -EDGE to EDGE.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        t = 20 * ((x - 0.5).flatten(1) @ DIRECTION)
        edge = 20 * EDGE
        columns = [-t, t] if self.classes == 2 else [-t - edge, torch.zeros_like(t), t - edge]
        return torch.stack(columns, 1)

    def probabilities(self, t: float) -> list[float]:
        """Of each class under the noise, exactly."""
        if self.classes == 2:
            return [norm.cdf(-t / SIGMA), norm.cdf(t / SIGMA)]
        low, high = norm.cdf((-EDGE - t) / SIGMA), norm.cdf((t - EDGE) / SIGMA)
        return [low, 1 - low - high, high]

    def answer(self, t: float) -> int:
        """Of the smoothed net, exactly."""
        p = self.probabilities(t)
        return p.index(max(p))

    def radius(self, t: float) -> float:
        """The exact distance from t to another answer of the smoothed net."""
        if self.classes == 2:
            return abs(t)  # margin / ||w||, since the direction has length 1

        def lead(s: float) -> float:
            p = self.probabilities(s)
            return p[1] - p[2]

        return abs(abs(t) - brentq(lead, 0, 1))


def system(classes: int, **noise: float) -> Pipeline:
    return Pipeline(Intervals(classes), purifier=Noise(**noise))


def labels(net: Intervals) -> Tensor:
    return torch.tensor([net.answer(float(t)) for t in PLACES])


@pytest.mark.parametrize("classes", [2, 3])
def test_certified_radii_approach_the_true_ones_and_never_exceed_them(classes: int) -> None:
    net, pipeline = Intervals(classes), system(classes)
    found = certify(pipeline, IMAGES, torch.arange(N), 0, HOW)
    certified = 0
    for at, place in enumerate(PLACES.tolist()):
        answer, radius = int(found["prediction"][at]), float(found["radius"][at])
        p = net.probabilities(place)[answer]
        assert float(found["p_lower"][at]) <= p
        expected = max(0.0, SIGMA * norm.ppf(p))  # sigma Phi^-1(pA), of infinitely many samples
        assert radius <= expected + 1e-12
        assert radius >= 0.93 * expected - 0.01
        if radius:
            certified += 1
            assert answer == net.answer(place)
            assert radius <= net.radius(place) + 1e-12
    assert certified >= N - 3
    if classes == 2:  # then the radius of infinitely many samples is the true one
        assert all(net.radius(t) == pytest.approx(SIGMA * norm.ppf(norm.cdf(abs(t) / SIGMA))) for t in PLACES.tolist())


@pytest.mark.parametrize("classes", [2, 3])
def test_the_smoothed_answer_is_the_true_one_or_none(classes: int) -> None:
    net, how = Intervals(classes), Certification(100, 2000, 0.001)
    given = predict(system(classes), IMAGES, Stream.named("scoring", 0, torch.arange(N)), how)
    wrong = (given.predictions[0] != labels(net)) & ~given.rejected[0]
    assert not wrong.any()
    assert given.rejected.sum() <= 3
    # On the boundary itself nothing is clear.
    edge = 0.5 + torch.zeros(4, 1, SIZE, SIZE)
    given = predict(system(2), edge, Stream.named("scoring", 0, torch.arange(4)), how)
    assert given.rejected.all()
    assert (certify(system(2), edge, torch.arange(4), 0, how)["radius"] == 0).all()


def test_samples_depend_on_the_image_alone() -> None:
    pipeline, ids = system(2), torch.arange(N)
    whole = tally(pipeline, IMAGES, Stream.named("a", 0, ids), 250)
    part = tally(pipeline, IMAGES[5:6], Stream.named("a", 0, ids[5:6]), 250)
    assert torch.equal(whole.counts[5], part.counts[0])
    assert (whole.counts.sum(1) == 250).all()
    assert not torch.equal(whole.counts, tally(pipeline, IMAGES, Stream.named("a", 1, ids), 250).counts)
    # More samples are the same ones and further ones.
    assert (tally(pipeline, IMAGES, Stream.named("a", 0, ids), 270).counts >= whole.counts).all()


def test_answers_that_are_not_finite_are_a_class_of_their_own() -> None:
    class Broken(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 2), torch.nan)

    pipeline, how = Pipeline(Broken(), purifier=Noise()), Certification(10, 100, 0.01)
    found = certify(pipeline, IMAGES, torch.arange(N), 0, how)
    assert (found["prediction"] == NOT_FINITE).all()
    assert (found["radius"] == 0).all()
    given = predict(pipeline, IMAGES, Stream.named("a", 0, torch.arange(N)), how)
    assert (given.predictions == NOT_FINITE).all()
    assert given.not_finite.all()


def attacked(pipeline: Pipeline, eps: float, how: Certification, attack: str = "pgd:steps=20") -> Outcome:
    threat = ThreatModel("l2", eps, "full")
    net = pipeline.classifier
    assert isinstance(net, Intervals)
    made = settings(rung("full", attack, 2), threat=threat, classes=net.classes, certification=how)
    return run(pipeline, IMAGES, labels(net), made)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("eps", [0.1, 0.3, 0.6])
def test_what_is_certified_is_not_broken_and_the_two_bounds_enclose_the_truth(classes: int, eps: float) -> None:
    net = Intervals(classes)
    outcome = attacked(system(classes), eps, Certification(100, 2000, 0.001))
    held, robust = outcome.certified["held"], outcome.attacked.robust(outcome.labels)[0]
    assert not outcome.certified["contradicted"].any()
    assert (robust | ~held).all()
    radii = torch.tensor([net.radius(t) for t in PLACES.tolist()])
    assert (radii[held] >= eps).all()
    assert (radii[~robust] <= eps + 1e-6).all()
    # Of two classes PGD finds the worst direction, so that the bounds nearly meet.
    if classes == 2:
        assert (radii >= eps).sum() - held.sum() <= 2
        assert robust.sum() - (radii >= eps).sum() <= 2


def test_a_certificate_that_promises_too_much_is_contradicted() -> None:
    outcome = attacked(system(2, sigma=0.1, claimed=1.0), 0.6, Certification(50, 500, 0.001))
    gone = outcome.certified["contradicted"]
    assert gone.any()
    assert (outcome.certified["radius"][gone] > outcome.distances[gone]).all()
    section = CertifiedSection.of(outcome, Certification(50, 500, 0.001), 1.0)
    assert section.contradicted == outcome.index[gone].tolist()
    (line,) = section.warnings()
    assert line.startswith("CONTRADICTION")


def test_the_section_and_the_metrics_count_what_was_certified() -> None:
    how = Certification(50, 500, 0.001)
    outcome = attacked(system(2), 0.3, how, "clamp")
    section = CertifiedSection.of(outcome, how, SIGMA)
    radii = outcome.certified["radius"]
    assert section.abstained == int((radii == 0).sum())
    assert section.curve[0].accuracy == pytest.approx(float((outcome.clean.correct(outcome.labels)).float().mean()))
    assert section.curve[-1].radius == section.largest
    assert [p.accuracy for p in section.curve] == sorted((p.accuracy for p in section.curve), reverse=True)
    assert section.chance == pytest.approx(2 * 0.001 * N)
    assert not section.warnings()
    figures = create(REGISTRY, "metric", parse("certification")).compute(outcome)
    assert figures["certified_accuracy"].hits == outcome.certified["held"].sum()
    assert figures["certified_radius"] == pytest.approx(float(radii.mean()))
    assert math.isclose(figures["certified_gap"], 1 - figures["certified_accuracy"].hits / N, abs_tol=0.2)
    assert "certified_accuracy" not in create(REGISTRY, "metric", parse("certification")).compute(
        run(
            Pipeline(Intervals(2)),
            IMAGES,
            labels(Intervals(2)),
            settings(rung("oblivious", "clamp"), threat=ThreatModel()),
        )
    )
