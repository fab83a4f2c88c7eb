"""The deployed system: gate, purification, rejection, independence of the batch."""

from __future__ import annotations

import pytest
import torch
from helpers.toys import Brightness, Halver, Linear, Noisy, images

from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.errors import HarnessError
from robustbench_med.interfaces.random import Stream


def rng(n: int, name: str = "scoring") -> Stream:
    return Stream.named(name, 0, torch.arange(n))


def full() -> Pipeline:
    return Pipeline(Linear(), Brightness(), Noisy(), Gate(threshold=0.5, low=0.4, high=0.6))


def test_only_flagged_images_are_purified() -> None:
    x = images(32)
    treated = full().treat(x, rng(32))
    flagged = x.flatten(1).mean(1) > 0.5
    assert 0 < int(flagged.sum()) < 32
    assert torch.equal(treated.flagged, flagged)
    assert torch.equal(treated.rows, flagged.nonzero().flatten())
    assert (treated.copies[:, 0] != x[flagged]).flatten(1).any(1).all()


def test_strength_follows_the_score() -> None:
    gate = Gate(threshold=0.5, low=0.2, high=0.6)
    assert torch.allclose(
        gate.strength(torch.tensor([0.1, 0.2, 0.4, 0.6, 0.9])), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0])
    )


def test_result_does_not_depend_on_the_batch() -> None:
    x, pipeline = images(16), full()
    together = pipeline(x, rng(16))
    order = torch.tensor([9, 3, 15])
    alone = torch.cat([pipeline(x[i : i + 1], rng(16)[i : i + 1]) for i in order.tolist()])
    assert torch.allclose(alone, together[order], atol=1e-6)
    assert torch.allclose(pipeline(x[order], rng(16)[order]), together[order], atol=1e-6)


def test_detector_without_purifier_rejects() -> None:
    x = images(16)
    decided = Pipeline(Linear(), Brightness(), None, Gate(0.5, 0.0, 1.0)).decide(x, rng(16))
    assert torch.equal(decided.rejected, decided.flagged)
    assert not decided.changed.any()
    wrong = 1 - decided.predictions[0]
    assert torch.equal(decided.robust(wrong), decided.rejected)
    assert not decided.correct(decided.predictions[0])[decided.rejected].any()


def test_purifier_without_detector_treats_everything() -> None:
    decided = Pipeline(Linear(), None, Halver()).decide(images(4), rng(4), draws=2)
    assert decided.changed.all()
    assert decided.scores.isnan().all()
    assert torch.equal(decided.predictions[0], decided.predictions[1])


def test_draws_are_fresh_and_repeatable() -> None:
    x, pipeline = images(16), full()
    first = pipeline.decide(x, rng(16), draws=3)
    again = pipeline.decide(x, rng(16), draws=3)
    assert torch.equal(first.purified_rmse, again.purified_rmse)
    assert (first.purified_rmse[0] != first.purified_rmse[1]).any()


def test_parts_take_no_parameter_gradients() -> None:
    assert not any(parameter.requires_grad for parameter in full().parameters())


def test_detector_and_gate_belong_together() -> None:
    with pytest.raises(ValueError, match="gate"):
        Pipeline(Linear(), Brightness())


@pytest.mark.parametrize(
    ("made", "told"),
    [(None, "a NoneType"), (torch.zeros(3), r"torch.float32 \(3,\)"), (torch.zeros(4).long(), r"torch.int64 \(4,\)")],
)
def test_a_detector_that_gives_no_score_for_each_image_is_named(
    monkeypatch: pytest.MonkeyPatch, made: object, told: str
) -> None:
    monkeypatch.setattr(Brightness, "score", lambda *_: made)
    with pytest.raises(HarnessError, match=rf"detector Brightness \(.*\) returned {told} for 4 images, "):
        full().score(images(4), rng(4))


def test_scores_in_half_precision_are_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Brightness, "score", lambda *_: torch.ones(4, dtype=torch.float16))
    assert full().score(images(4), rng(4)).dtype == torch.float32


@pytest.mark.parametrize(("made", "told"), [(None, "a NoneType"), (torch.zeros(1, 1), r"shape \(1, 1\)")])
def test_a_purifier_that_returns_other_images_is_named(
    monkeypatch: pytest.MonkeyPatch, made: object, told: str
) -> None:
    monkeypatch.setattr(Noisy, "purify", lambda *_: made)
    with pytest.raises(HarnessError, match=rf"purifier Noisy \(.*\) returned {told} for "):
        full().treat(images(32), rng(32))
