"""Systems that attacks and judges meet as another one: a copy, random ones, and those that keep state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.attacks import examined, rung, settings
from helpers.sanity import GATE, THREAT, Net, Noisy, Rough, Smooth, images, labels, looked_at
from torch import Tensor

from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import HarnessError, NotDefined
from robustbench_med.interfaces.random import Stream


class Copied(Net):
    """Its copies answer otherwise."""

    def __deepcopy__(self, memo: Any) -> Net:
        return Net(lambda logits, x: -logits)


class CopiedPart(Smooth):
    """Its copies do nothing."""

    idle = False

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return 1 - x if self.idle else super().purify(x, strength, rng)

    def __deepcopy__(self, memo: Any) -> CopiedPart:
        new = type(self)()
        new.idle = True
        return new


class Drawing(Net):
    """Draws noise, and answers otherwise where it is asked for a gradient, or where it is not scored."""

    stochastic = True

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        scored = torch.is_inference_mode_enabled()
        other = {"gradient": x.requires_grad, "scored": not scored, "never": False}[self.when]
        return (-logits if other else logits) + 0.1 * torch.randn(logits.shape)


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(Copied()),
        Pipeline(Net(), None, CopiedPart()),
        Pipeline(Drawing("gradient")),
        Pipeline(Drawing("scored")),
        Pipeline(Drawing("scored"), Rough(), Noisy(), GATE),
    ],
    ids=["copy", "copied part", "gradient", "scored", "behind noise"],
)
def test_another_system_is_attacked(pipeline: Pipeline) -> None:
    assert "mode-dependent" in looked_at(pipeline)["flags"]


@pytest.mark.parametrize("purifier", [None, Noisy()])
def test_noise_is_not_another_system(purifier: Noisy | None) -> None:
    found = looked_at(Pipeline(Drawing("never"), None, purifier))
    assert "mode-dependent" not in found["flags"]
    assert found["figures"]["mode_dependent"] == 0


class Tiring(Net):
    """Answers otherwise after so many calls in inference mode; all copies count together."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.asked = calls, [0]

    def __deepcopy__(self, memo: Any) -> Tiring:
        new = copy.copy(self)
        new.asked = self.asked
        return new

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        self.asked[0] += torch.is_inference_mode_enabled()
        return -logits if self.asked[0] > self.calls else logits


def test_a_system_that_keeps_state() -> None:
    x = images()
    ladder = settings(rung("oblivious", "apgd:steps=5"), rung("query", "square:queries=5"), threat=THREAT)
    # Asked for the clean images, and to judge either attack; then the attacked images are scored.
    found = examined(Pipeline(Tiring(3)), x, labels(x), ladder)
    assert "keeps-state" in found["flags"]
    assert found["figures"]["judged_otherwise"] == 1
    for healthy in (Pipeline(Net()), Pipeline(Net(), Rough(), None, GATE)):
        found = examined(healthy, x, labels(x), ladder)
        assert "keeps-state" not in found["flags"]
        assert found["figures"]["judged_otherwise"] == 0
    # Draws of noise are others when a system is judged, and of a single attack nothing is judged.
    assert examined(Pipeline(Net(), None, Noisy()), x, labels(x), ladder)["figures"]["judged_otherwise"] is None
    assert looked_at(Pipeline(Net()))["figures"]["judged_otherwise"] is None


class Choosy(Smooth):
    """Has no answer to an image that is not one of the given."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = known

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        if torch.is_inference_mode_enabled() and not torch.isin(x.flatten(1)[:, 0], self.known).all():
            raise NotDefined("not one of my images")
        return super().purify(x, strength, rng)


def test_a_system_that_does_not_answer_attacked_images_is_not_robust_to_the_attack() -> None:
    """A rung that does not exist is left out; an attack that worked, and whose images are not answered, is none."""
    x = images()
    ladder = settings(rung("oblivious", "apgd:steps=5"), rung("query", "clamp"), threat=THREAT)
    with pytest.raises(HarnessError, match="does not answer attacked images: NotDefined: not one of my images"):
        examined(Pipeline(Net(), None, Choosy(x.flatten(1)[:, 0])), x, labels(x), ladder)
