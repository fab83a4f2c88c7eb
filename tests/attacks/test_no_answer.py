"""Attacks on systems whose answer to a changed image is not finite: such an answer is wrong, and attacks see that."""

from __future__ import annotations

import pytest
import torch
from helpers.attacks import accuracy, run, rung, settings
from helpers.sanity import GATE, THREAT, Net, Rough, Smooth, images, labels
from torch import Tensor

from robustbench_med.attacks.not_finite import answered
from robustbench_med.attacks.target_model import abstained
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.attack import margin
from robustbench_med.interfaces.defense import System
from robustbench_med.interfaces.random import Stream


def stored() -> Tensor:
    """Images as they are stored, with 8 bits a pixel."""
    return (images() * 255).round() / 255


def changed(x: Tensor) -> Tensor:
    """bool (N,): no image that is stored with 8 bits a pixel."""
    x = x.detach().flatten(1) * 255
    return ((x - x.round()).abs() > 1e-3).any(1)


def lost(logits: Tensor, x: Tensor) -> Tensor:
    return torch.where(changed(x)[:, None], torch.nan, logits)


class LostScore(Rough):
    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return torch.where(changed(x), torch.nan, super().score(x, system, rng))


class LostCopy(Smooth):
    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return torch.where(changed(x)[:, None, None, None], torch.nan, x)


class Hidden(Net):
    """A classifier of whose answer to an image of NaN nothing can be seen."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.nan_to_num(0.5, 0.5, 0.5))


@pytest.mark.parametrize("attack", ["apgd:steps=5", "pgd:steps=5", "square:queries=20", "fab:steps=5", "cw:steps=5"])
@pytest.mark.parametrize("access", ["oblivious", "bpda", "full"])
def test_no_answer_of_the_classifier(access: str, attack: str) -> None:
    x = stored()
    outcome = run(Pipeline(Net(lost)), x, labels(x), settings(rung(access, attack), threat=THREAT))
    assert outcome.clean.correct(outcome.labels).all()
    assert accuracy(outcome) == 0


@pytest.mark.parametrize("attack", ["square:queries=20", "hopskipjump:max_queries=60"])
def test_no_answer_seen_by_queries(attack: str) -> None:
    x = stored()
    outcome = run(Pipeline(Net(lost)), x, labels(x), settings(rung("query", attack), threat=THREAT))
    assert accuracy(outcome) == 0


@pytest.mark.parametrize("access", ["boundary", "bpda", "gate", "full", "query"])
def test_no_score_of_the_detector(access: str) -> None:
    x, attack = stored(), "square:queries=20" if access == "query" else "apgd:steps=3"
    for purifier in (Smooth(), None):
        whole = Pipeline(Net(), LostScore(), purifier, GATE)
        if access == "gate" and purifier is None:
            continue
        outcome = run(whole, x, labels(x), settings(rung(access, attack), threat=THREAT))
        assert accuracy(outcome) == 0, purifier


@pytest.mark.parametrize("access", ["boundary", "bpda", "query", "full"])
def test_no_copy_of_the_purifier(access: str) -> None:
    x, attack = stored(), "square:queries=20" if access == "query" else "apgd:steps=3"
    outcome = run(Pipeline(Hidden(), None, LostCopy()), x, labels(x), settings(rung(access, attack), threat=THREAT))
    assert outcome.clean.correct(outcome.labels).all()
    assert accuracy(outcome) == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_answered(bad: float) -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [bad, 2.0, 3.0], [1.0, 2.0, bad]], requires_grad=True)
    y = torch.tensor([2, 0, 2])
    found = answered(logits, y, logits.isfinite().all(1))
    assert found.isfinite().all()
    assert torch.equal(found[0], logits[0])
    assert (margin(found, y)[1:] > 0).all()
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3]


def test_a_rejected_image_without_an_answer_is_rejected() -> None:
    y = torch.tensor([1, 1])
    found = abstained(
        answered(torch.full((2, 2), torch.nan), y, torch.tensor([False, False])), y, torch.tensor([0.5, -0.5])
    )
    assert found.argmax(1).tolist() == [1, 0]
