"""Gradients of the rungs against numeric ones, in float64, with the noise held fixed."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.access import STREAM, Contrast, Curved, Cut, N, Squash, analytic, images, numeric, seen
from torch import Tensor

from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.full import mixture
from robustbench_med.attacks.gate import steer
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import TargetSettings, abstained
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.defense import System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel

SCORES = (images() - 0.5).square().flatten(1).mean(1)
#: Wide, so that the soft gate has a slope for every image; half of the images lie over the threshold.
GATE = Gate(threshold=float(SCORES.sort().values[2:4].mean()), low=-1.0, high=1.0)


@pytest.mark.parametrize("eot", [1, 3])
def test_full_without_a_gate_is_the_numeric_gradient(eot: int) -> None:
    value = seen(Pipeline(Curved(), None, Squash()), "full", eot)
    assert torch.allclose(analytic(value), numeric(value), atol=1e-8)


def test_full_with_a_steep_gate_is_the_numeric_gradient() -> None:
    # Every image lies far from the threshold in units of the clean scores, so that the hard gate is all there is.
    steep = Gate(threshold=GATE.threshold, low=GATE.threshold - 1e-12, high=1.0)
    pipeline = Pipeline(Curved(), Contrast(), Squash(), steep)
    value = seen(pipeline, "full")
    assert torch.allclose(analytic(value), numeric(value), atol=1e-8)


def test_full_follows_the_mixture_of_both_answers_behind_a_soft_gate() -> None:
    pipeline = Pipeline(Curved(), Contrast(), Squash(), GATE)
    rng = STREAM.moment(0)
    assert (GATE.threshold < SCORES).sum() == 3
    weight = torch.linspace(-1, 1, N * 2, dtype=torch.float64).view(N, 2)

    def soft(x: Tensor) -> Tensor:
        scores = (x - 0.5).square().flatten(1).mean(1)
        purified = Squash().purify(x, torch.ones(N), rng.fork("purifier"))
        mixed = mixture(pipeline.classifier(x), pipeline.classifier(purified), GATE.distance(scores))
        return (mixed * weight).sum()

    got = analytic(seen(pipeline, "full"))
    assert torch.allclose(got, numeric(soft), atol=1e-8)
    hard = numeric(seen(pipeline, "full"))
    assert not torch.allclose(got, hard, atol=1e-4)  # the gate's part is not nothing


def test_the_mixture_is_that_of_the_probabilities_and_exact_where_one_answer_is_certain() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    distance = torch.tensor([-60.0, -1.0, 0.0, 2.0, 60.0], dtype=torch.float64)
    g = distance.sigmoid()[:, None]
    assert torch.allclose(mixture(a, b, distance).softmax(1), (1 - g) * a.softmax(1) + g * b.softmax(1))
    assert torch.allclose(mixture(a, b, distance)[[0, 4]], torch.stack([a[0], b[4]]))


@pytest.mark.parametrize("gate", [Gate(0.3, 0.1, 0.3), Gate(-2.0, -5.0, -2.0), Gate(1e-6, 1e-6, 1.0)])
def test_the_distance_to_the_gate_rises_everywhere_and_grows_by_one_for_each_factor_e(gate: Gate) -> None:
    unit = max(gate.threshold - gate.low, 1e-12)
    scores = gate.low + unit * torch.linspace(-3, 3, 50, dtype=torch.float64)
    assert (gate.distance(scores).diff() > 0).all()
    assert gate.distance(torch.tensor([gate.threshold], dtype=torch.float64)).abs() < 1e-6
    far = gate.low + unit * torch.tensor([1e3, math.e * 1e3, 1e4, math.e * 1e4], dtype=torch.float64)
    assert torch.allclose(gate.distance(far)[[1, 3]] - gate.distance(far)[[0, 2]], torch.ones(2).double(), atol=1e-4)


def test_rungs_that_see_the_whole_system_answer_as_deployed() -> None:
    pipeline = Pipeline(Curved(), Contrast(), Squash(), GATE)
    x = images()
    deployed = pipeline(x, STREAM)
    for access in ("bpda", "full", "query"):
        counter = QueryCounter(x, torch.zeros(N, dtype=torch.int64), ThreatModel(), Budget())
        for wants in (True, False):
            counter.queries.zero_()
            settings = TargetSettings(pipeline, counter)
            logits = target_for(settings, access, STREAM)(x.clone().requires_grad_(wants))
            assert torch.equal(logits, deployed), access


def test_gate_answers_as_the_classifier_but_for_flagged_images_which_count_as_right() -> None:
    pipeline, y = Pipeline(Curved(), Contrast(), Squash(), GATE), torch.zeros(N, dtype=torch.int64)
    expected = abstained(pipeline.classifier(images()), y, GATE.distance(SCORES))
    for evasion in ("orthogonal", "selective", "joint:1"):
        for wants in (True, False):
            counter = QueryCounter(images(), y, ThreatModel(), Budget())
            settings = TargetSettings(pipeline, counter, evasion=evasion)
            logits = target_for(settings, "gate", STREAM)(images().requires_grad_(wants))
            assert torch.equal(logits, expected), evasion
    flagged = GATE.threshold < SCORES
    assert not expected.argmax(1)[flagged].any()
    assert torch.equal(expected[~flagged], pipeline.classifier(images())[~flagged])


def test_selective_evasion_follows_the_classifier_until_it_is_wrong_and_then_the_score() -> None:
    """Each of the four branches is reached, and no gradient enters the purifier."""
    pipeline = Pipeline(Curved(), Contrast(), Cut(), GATE)
    y = pipeline.classifier(images()).argmax(1) ^ torch.arange(N) % 2
    x, side = images().requires_grad_(), 1 - 2 * y
    classifier, score = pipeline.classifier(x), (x - 0.5).square().flatten(1).mean(1)
    wrong, flagged = classifier.argmax(1) != y, score > GATE.threshold
    counter = QueryCounter(images(), y, ThreatModel(), Budget())
    logits = target_for(TargetSettings(pipeline, counter, evasion="selective"), "gate", STREAM)(x)
    (got,) = torch.autograd.grad((side * (logits[:, 1] - logits[:, 0])).sum(), x)
    (up,) = torch.autograd.grad((side * (classifier[:, 1] - classifier[:, 0])).sum(), x, retain_graph=True)
    (away,) = torch.autograd.grad(GATE.distance(score).sum(), x)
    # A flagged image that is right already: both aims at once.
    expected = torch.where((flagged & wrong).view(-1, 1, 1, 1), -away, up - flagged.view(-1, 1, 1, 1) * away)
    assert len({(bool(a), bool(b)) for a, b in zip(wrong, flagged, strict=True)}) == 4
    assert torch.allclose(got, expected)


@pytest.mark.parametrize(("access", "sees"), [("oblivious", False), ("boundary", True), ("full", True)])
def test_success_is_judged_by_what_the_adversary_sees(access: str, sees: bool) -> None:
    class Inverts(Squash):
        stochastic = False

        def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
            return 1 - x

    pipeline = Pipeline(Curved(), None, Inverts())
    y = pipeline.classifier(images()).argmax(1)
    counter = QueryCounter(images(), y, ThreatModel(), Budget())
    rate = target_for(TargetSettings(pipeline, counter), access, STREAM).success_rate(images(), y, 8)
    wrong = pipeline.classifier(1 - images()).argmax(1) != y
    assert wrong.any()
    assert rate.tolist() == (wrong.float().tolist() if sees else [0.0] * N)
    assert counter.queries.tolist() == [1] * N  # without noise one answer is enough


def test_boundary_has_the_classifiers_gradient_and_draws_the_systems_noise() -> None:
    pipeline = Pipeline(Curved(), Contrast(), Squash(), Gate(-1.0, -2.0, 1.0))
    assert torch.equal(analytic(seen(pipeline, "boundary", 3)), analytic(seen(pipeline, "oblivious")))
    y = pipeline.classifier(images()).argmax(1)
    counter = QueryCounter(images(), y, ThreatModel(), Budget())
    target = target_for(TargetSettings(pipeline, counter), "boundary", STREAM)
    first, second = (target.success_rate(images(), y, 64) for _ in range(2))
    assert counter.queries.tolist() == [128] * N
    assert not torch.equal(first, second)  # fresh draws
    share = (pipeline.decide(images(), STREAM, 512).predictions != y).float().mean(0)
    assert torch.allclose((first + second) / 2, share, atol=0.15)


def test_bpda_is_the_classifiers_gradient_where_it_is_deployed() -> None:
    pipeline = Pipeline(Curved(), Contrast(), Squash(), GATE)
    found = pipeline.treat(images(), STREAM)
    treated = images().index_copy(0, found.rows, found.copies[:, 0]).detach().requires_grad_()
    weight = torch.linspace(-1, 1, N * 2, dtype=torch.float64).view(N, 2)
    expected = torch.autograd.grad((pipeline.classifier(treated) * weight).sum(), treated)[0]
    assert torch.equal(analytic(seen(pipeline, "bpda")), expected)


def test_bpda_with_a_blur_in_the_backward_pass() -> None:
    pipeline = Pipeline(Curved(), None, Squash())
    plain, blurred = analytic(seen(pipeline, "bpda")), analytic(seen(pipeline, "bpda", stand_in="blur"))
    # The transpose of a blur with replicated edges keeps the total, and takes the roughness out of the gradient.
    assert torch.allclose(plain.sum((1, 2, 3)), blurred.sum((1, 2, 3)))
    assert (blurred.diff(dim=3).abs().sum() < 0.7 * plain.diff(dim=3).abs().sum()).all()


def test_transfer_is_the_surrogate() -> None:
    surrogate = Curved()
    with torch.no_grad():
        surrogate.second.mul_(2)
    pipeline = Pipeline(Curved(), Contrast(), Squash(), GATE)
    value = seen(pipeline, "transfer", surrogate=surrogate)
    direct = seen(Pipeline(surrogate), "oblivious")
    assert torch.equal(analytic(value), analytic(direct))
    with pytest.raises(NotDefined, match="needs a surrogate"):
        seen(pipeline, "transfer")(images())


def test_parts_without_a_gradient_are_named() -> None:
    cut = Pipeline(Curved(), Contrast(), Cut(), GATE)
    with pytest.raises(NotDefined, match="purifier Cut gives no gradient"):
        analytic(seen(cut, "full"))
    analytic(seen(cut, "bpda"))  # needs none
    with pytest.raises(NotDefined, match="needs a defense with a detector"):
        analytic(seen(Pipeline(Curved(), None, Squash()), "gate"))

    class Blind(Contrast):
        def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
            return super().score(x, system, rng).detach()

    with pytest.raises(NotDefined, match="score gives no gradient"):
        analytic(seen(Pipeline(Curved(), Blind(), Squash(), GATE), "gate"))


def test_gate_counts_the_scores_gradient_too() -> None:
    pipeline = Pipeline(Curved(), Contrast(), Squash(), GATE)
    counter = QueryCounter(images(), torch.zeros(N, dtype=torch.int64), ThreatModel(), Budget())
    module = target_for(TargetSettings(pipeline, counter, 2), "gate", STREAM)
    x = images().requires_grad_()
    module(x).sum().backward()
    assert counter.gradients.tolist() == [4] * N
    assert counter.queries.tolist() == [2] * N


@pytest.mark.parametrize("evasion", ["orthogonal", "joint:0.5", "joint:10"])
def test_steering(evasion: str) -> None:
    generator = torch.Generator().manual_seed(2)
    attack, score = (torch.randn(4, 1, 3, 3, generator=generator) for _ in range(2))
    flagged, wrong = torch.tensor([False, True, False, True]), torch.tensor([False, False, True, True])
    got = steer(attack, score, flagged, wrong, evasion)
    assert torch.allclose(got.flatten(1).norm(dim=1), attack.flatten(1).norm(dim=1), rtol=1e-5)

    def along(direction: Tensor) -> Tensor:
        return (got * direction).flatten(1).sum(1) / (got.flatten(1).norm(dim=1) * direction.flatten(1).norm(dim=1))

    if evasion == "orthogonal":
        assert along(score)[:3].abs().max() < 1e-5  # the score stays as it is while the answer is right
        assert along(attack)[:3].min() > 0
        assert along(attack)[3].abs() < 1e-5  # wrong but flagged: the loss stays as it is
        assert along(score)[3] < -0.1  # and the score falls
    else:
        assert torch.allclose(got[[0, 2]], attack[[0, 2]])  # unflagged images are attacked as they are
        before = (attack * score).flatten(1).sum(1) / (attack.flatten(1).norm(dim=1) * score.flatten(1).norm(dim=1))
        assert (along(score)[[1, 3]] < before[[1, 3]]).all()
        if evasion == "joint:10":
            assert (along(score)[[1, 3]] < -0.9).all()


def test_steering_where_the_score_is_a_function_of_the_margin() -> None:
    """Two classes and a detector of low confidence: nothing is orthogonal to the score, so the aims stay."""
    attack = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    got = steer(attack, 3 * attack, torch.tensor([True, True]), torch.tensor([False, True]), "orthogonal")
    assert torch.allclose(got, torch.stack([attack[0], -attack[1]]), atol=1e-5)


@pytest.mark.parametrize("evasion", ["orthogonal", "joint:1", "selective"])
def test_gate_slips_under_the_threshold_where_full_does_not(evasion: str) -> None:
    """A detector without purifier rejects: only an unflagged wrong answer counts."""
    pipeline = Pipeline(Curved(), Contrast(), None, Gate(threshold=float(SCORES.max()) * 1.1, low=0.0, high=1.0))
    y = pipeline.classifier(images()).argmax(1)
    threat = ThreatModel(eps=0.25)

    def broken(access: str) -> int:
        counter = QueryCounter(images(), y, threat, Budget())
        module = target_for(TargetSettings(pipeline, counter, evasion=evasion), access, STREAM)
        x, found = images(), torch.zeros(N, dtype=torch.bool)
        for _ in range(60):
            x = x.requires_grad_()
            logits = module(x)
            margin = logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]
            (grad,) = torch.autograd.grad(margin.sum(), x)
            x = threat.project(x.detach() + 0.02 * grad.sign(), images())
            found |= ~pipeline.decide(x, STREAM).robust(y)[0]
        return int(found.sum())

    assert broken("gate") >= 3
    assert broken("gate") >= broken("oblivious")


def test_bpda_with_a_detector_without_noise_asks_about_unflagged_images_once_and_answers_the_same() -> None:
    class Noted(Curved):
        rows = 0

        def forward(self, x: Tensor) -> Tensor:
            self.rows += len(x)
            return super().forward(x)

    class Restless(Contrast):
        stochastic = True  # so that nothing is taken to be the same in every draw

    answers, gradients, asked = [], [], []
    for detector in (Contrast(), Restless()):
        net = Noted()
        counter = QueryCounter(images(), torch.zeros(N, dtype=torch.int64), ThreatModel(), Budget())
        x = images().requires_grad_()
        each = target_for(TargetSettings(Pipeline(net, detector, Squash(), GATE), counter, 4), "bpda", STREAM).each(x)
        gradients.append(torch.autograd.grad(each.square().sum(), x)[0])
        answers.append(each.detach())
        asked.append(net.rows)
    assert torch.allclose(answers[0], answers[1])
    assert torch.allclose(gradients[0], gradients[1])
    assert asked == [N // 2 + N // 2 * 4, N * 4]
