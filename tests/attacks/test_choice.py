"""Which image is kept for each image under attack, and when an image is attacked no further."""

from __future__ import annotations

import pytest
import torch
from helpers.attacks import run, rung_of, settings
from helpers.toys import Linear
from torch import Tensor

from robustbench_med.attacks.choice import DRAWS, ENOUGH, Choice
from robustbench_med.attacks.controls import Controls
from robustbench_med.attacks.diagnostics import report
from robustbench_med.attacks.rung import RungRef
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.defense import Purifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.plugins.references import PartRef

N = 200
THREAT = ThreatModel(eps=0.5)
NET = Linear()
UP = (NET.weight[1] - NET.weight[0]).detach().sign().view(1, 1, 4, 4)


class Shaking(Purifier):
    """Moves every image along the direction of the answer, by normal noise."""

    bounded, stochastic = False, True

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return x + 0.1 * rng.normal((len(x), 1, 1, 1)) * UP


class Still(Shaking):
    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return x


def chosen(purifier: Purifier) -> tuple[Choice, Tensor]:
    x, y = (0.5 - 0.1 * UP).repeat(N, 1, 1, 1), torch.zeros(N, dtype=torch.int64)
    pipeline, ids = Pipeline(NET, None, purifier), torch.arange(N)
    how = settings(rung_of(object()), threat=THREAT)
    clean = pipeline.decide(x, Stream.named("scoring", 0, ids))
    return Choice(pipeline, x, y, ids, how, clean), x


def rate(x: Tensor) -> float:
    """The true share of wrong answers to images 0.5 + a * UP."""
    return float(torch.special.ndtr((x - 0.5).mul(UP).mean() / 0.1))


def test_without_noise_a_candidate_is_asked_once_and_a_wrong_one_ends_it() -> None:
    choice, x = chosen(Still())
    assert len(choice.open()) == N
    wrong = x + 0.15 * UP
    choice.offer(torch.where((torch.arange(N) < 50).view(-1, 1, 1, 1), wrong, x), torch.arange(N))
    assert choice.robust.tolist() == [0.0] * 50 + [1.0] * (N - 50)
    assert choice.open().tolist() == list(range(50, N))
    assert torch.equal(choice.best[:50], wrong[:50])


def test_a_choice_that_was_lucky_does_not_stay_so() -> None:
    """Ten candidates that are no worse than the image itself: the rate of what is kept stays near the true one."""
    choice, x = chosen(Shaking())
    rows = torch.arange(N)
    for _ in range(10):
        choice.offer(x, rows)
    wrong = 1 - float(choice.robust.mean())
    assert wrong == pytest.approx(rate(x), abs=0.05)  # 0.16; the best of eleven times eight draws would be 0.35
    once = max(0.0, *(1 - float(chosen(Shaking())[0].robust.mean()) for _ in range(2)))
    assert once == pytest.approx(rate(x), abs=0.03)


def test_a_worse_image_wins_and_an_image_leaves_after_enough_wrong_draws_only() -> None:
    choice, x = chosen(Shaking())
    rows, worse, hopeless = torch.arange(N), x + 0.1 * UP, x + 0.5 * UP
    choice.offer(worse, rows)
    assert (choice.best == worse).flatten(1).all(1).float().mean() > 0.9
    choice.offer(hopeless, rows)
    assert torch.equal(choice.best, hopeless)
    assert choice.robust.eq(0).all()
    assert len(choice.open()) == N  # eight draws are not enough
    assert DRAWS < ENOUGH
    choice.offer(x, rows)
    assert torch.equal(choice.best, hopeless)
    assert len(choice.open()) == 0


def test_a_tie_keeps_the_first_attack_and_what_continued_from_it() -> None:
    choice, x = chosen(Still())
    rows = torch.arange(N)
    first, second, third = x + 0.01 * UP, x + 0.02 * UP, x + 0.03 * UP
    choice.offer(first, rows)
    choice.offer(second, rows)
    assert torch.equal(choice.best, first)
    choice.offer(third, rows, continued=True)
    assert torch.equal(choice.best, third)


def test_rounds_continue_from_the_worst_image_and_are_points_of_the_curve() -> None:
    class Creep:
        """Moves each image on from where the last round left it, with one gradient."""

        params, eot, warm = None, None, True

        def run(self, model, x, y, threat, budget, rng):  # type: ignore[no-untyped-def]
            now = (x if model.start is None else model.start).clone().requires_grad_()
            torch.autograd.grad(model(now).sum(), now)
            return now.detach() + 0.04 * UP

    rung = rung_of(Creep(), "full")
    rung = type(rung)(RungRef("full", PartRef("creep"), rounds=4), rung.attack)
    x, y = (0.5 - 0.1 * UP).repeat(6, 1, 1, 1), torch.zeros(6, dtype=torch.int64)
    outcome = run(Pipeline(NET, None, Still()), x, y, settings(rung, threat=THREAT))
    (result,) = outcome.rungs
    assert result.robust_after.tolist() == [[1.0, 1.0, 0.0]] * 6
    assert result.spent_after.tolist() == [[1, 2, 3]] * 6
    assert result.gradients.tolist() == [3] * 6
    assert torch.allclose(outcome.distances, torch.full((6,), 0.12))
    assert "still-falling" in report("cheap", outcome, {}, Controls(), 0.0)["flags"]
