"""Parts of a deployed system that do not what their interfaces promise are named, and make no figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.toys import Brightness, Halver, Linear, Noisy, images
from torch import Tensor

from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.defenses.resolved import checked_recipe
from robustbench_med.errors import BadParameter, HarnessError, described
from robustbench_med.interfaces.defense import Recipe, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.plugins.calls import naming
from robustbench_med.plugins.references import PartRef


def decide(x: Tensor, detector: bool = True) -> None:
    gate = Gate(threshold=0.5, low=0.4, high=0.6) if detector else None
    pipeline = Pipeline(Linear(), Brightness() if detector else None, Halver(), gate)
    pipeline.decide(x, Stream.named("scoring", 0, torch.arange(len(x))))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: 2 * x - 1, r"returned values from -[\d.]+ to [\d.]+; valid: 0 to 1, so clamp them"),
        (lambda x: (255 * x).to(torch.uint8), r"returned values from \d+ to \d+; valid: 0 to 1"),
        (lambda x: x.to("meta"), "returned images in torch.float32, torch.strided, on meta; valid: real, dense and on"),
        (lambda x: x.to(torch.complex64), "returned images in torch.complex64"),
        (lambda x: x.to_sparse(), "returned images in torch.float32, torch.sparse_coo"),
        (lambda x: x.numpy(), "returned a ndarray for images of"),
    ],
)
def test_a_purifier_that_returns_no_images_in_range_is_named(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Any], told: str
) -> None:
    monkeypatch.setattr(Halver, "purify", lambda self, x, strength, rng: change(x.detach()))
    with pytest.raises(HarnessError, match=rf"^purifier Halver \(helpers.toys\) {told}"):
        decide(images(32), detector=False)


def test_rounding_is_in_range_and_what_is_not_finite_is_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Halver, "purify", lambda self, x, strength, rng: torch.ones_like(x) * (1 + 1e-6))
    decide(images(8), detector=False)
    monkeypatch.setattr(Halver, "purify", lambda self, x, strength, rng: x * torch.nan)
    decide(images(8), detector=False)


@pytest.mark.parametrize("change", [lambda x: x.mul_(0.5), lambda x: x.data.mul_(0.5)])
@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_a_part_that_changes_its_images_in_place_is_named(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Any], kind: str
) -> None:
    cls, method = {"detector": (Brightness, "score"), "classifier": (Linear, "forward")}[kind]
    before: Any = getattr(cls, method)
    monkeypatch.setattr(cls, method, lambda self, x, *more: before(self, change(x), *more))
    parts: Any = (Brightness(), None, Gate(0.5, 0.4, 0.6)) if kind == "detector" else ()
    x = images(8)
    kept = x.clone()
    with pytest.raises(
        HarnessError, match=rf"^{kind} {cls.__name__} \(helpers.toys\) changes its images in place; valid"
    ):
        Pipeline(Linear(), *parts).decide(x, Stream.named("scoring", 0, torch.arange(8)))
    assert torch.equal(x, kept), "they are those of the data set"


def test_a_purifier_may_work_in_place_on_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Halver, "purify", lambda self, x, strength, rng: x.mul_(0.5))
    x = images(8)
    kept = x.clone()
    decide(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda logits: logits.argmax(1), "torch.int64 (8,)"),
        (lambda logits: logits[:-1], "torch.float32 (7, 2)"),
        (lambda logits: (logits,), "a tuple"),
        (lambda logits: logits.numpy(), "a ndarray"),
        (lambda logits: None, "a NoneType"),
    ],
)
def test_a_classifier_that_returns_no_logits_is_named(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Any], told: str
) -> None:
    before = Linear.forward
    monkeypatch.setattr(Linear, "forward", lambda self, x: change(before(self, x).detach()))
    told = re.escape(f"returned {told} for 8 images; valid: logits, floating-point (8, classes)")
    with pytest.raises(HarnessError, match=rf"^classifier Linear \(helpers.toys\) {told}"):
        decide(images(8))


def test_votes_that_are_not_joined_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Noisy, "votes", 2)
    monkeypatch.setattr(Noisy, "copies", lambda self, x, strength, rng: torch.stack([x, x], 1))
    monkeypatch.setattr(Noisy, "join", lambda self, logits: logits)
    pipeline = Pipeline(Linear(), None, Noisy())
    with pytest.raises(
        HarnessError, match=r"^purifier Noisy .* joined the logits of 2 copies into shape \(8, 2, 2\); "
    ):
        pipeline.decide(images(8), Stream.named("scoring", 0, torch.arange(8)))


@pytest.mark.parametrize(
    ("part", "method", "told"),
    [
        (Brightness, "score", "detector Brightness (helpers.toys)"),
        (Halver, "copies", "purifier Halver (helpers.toys)"),
        (Linear, "forward", "classifier Linear (helpers.toys)"),
    ],
)
def test_a_part_that_raises_is_named(monkeypatch: pytest.MonkeyPatch, part: type, method: str, told: str) -> None:
    def raising(*given: Any) -> Tensor:
        return torch.ones(2) @ torch.ones(3)

    monkeypatch.setattr(part, method, raising)
    with pytest.raises(RuntimeError, match="inconsistent tensor size") as raised:
        decide(images(8))
    assert described(raised.value).endswith(f"; raised by {told}")


def test_of_parts_that_ask_one_another_the_innermost_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def asking(self: Brightness, x: Tensor, system: System, rng: Stream) -> Tensor:
        with naming("classifier", system.classifier):
            raise ValueError("as asked")

    monkeypatch.setattr(Brightness, "score", asking)
    with pytest.raises(ValueError, match="as asked") as raised:
        decide(images(8))
    assert described(raised.value) == "ValueError: as asked; raised by classifier Linear (helpers.toys)"


MODEL, STRATEGY = PartRef("linear"), PartRef("pooled")


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (None, "is a NoneType, not a Recipe"),
        ({"model": "linear"}, "is a dict, not a Recipe"),
        (Recipe("linear", STRATEGY), "has model='linear'; valid: rbmed.PartRef or "),  # type: ignore[arg-type]
        (Recipe(MODEL, None), "has strategy=None; valid: rbmed.PartRef or "),  # type: ignore[arg-type]
        (Recipe(MODEL, STRATEGY, fpr=2.0), "has fpr=2.0; valid: a number > 0, < 1"),
        (Recipe(MODEL, STRATEGY, fpr="a"), "has fpr='a'; valid: a number > 0, < 1"),  # type: ignore[arg-type]
        (Recipe(MODEL, STRATEGY, strength=-1.0), "has strength=-1.0; valid: None, or from 0 to 1"),
        (Recipe(MODEL, STRATEGY, strength=float("nan")), "has strength=nan; valid: "),
    ],
)
def test_a_recipe_that_is_none_is_refused(recipe: Any, told: str) -> None:
    with pytest.raises(BadParameter, match=f"^defense 'mine': its recipe {told}"):
        checked_recipe(recipe, "defense 'mine'")


def test_images_that_are_not_finite_change_nothing_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    decide(images(8) * torch.nan)
    broken = images(8)
    broken[0, 0, 0, 0] = torch.nan
    decide(broken)
    before: Any = Linear.forward
    monkeypatch.setattr(Linear, "forward", lambda self, x: before(self, x.mul_(0.5)))
    with pytest.raises(HarnessError, match="changes its images in place"):
        Pipeline(Linear()).decide(broken, Stream.named("scoring", 0, torch.arange(8)))
