"""MedFedPure's aim, met otherwise: adversarially trained personalized experts that withhold doubtful answers."""

from __future__ import annotations

from typing import Literal

import robustbench_med as rbmed
from rbmed_medfedpure.recipes.presets import part
from robustbench_med import Defense, Field, Recipe, parse

#: What the preset fills in: how the experts are trained, and the share of clean calibration images left unanswered.
#: Both were chosen on calibration images (docs/medfedpure.md has the log).
CHOICES: dict[str, tuple[str, float]] = {
    "small": (
        "pfeddef:rounds=10,local_epochs=1,batch_size=16,autocast=true,adversarial=[pgd:steps=3]",
        0.01,
    ),
    "few": (
        "pfeddef:rounds=20,batch_size=16,shift=0.06,jitter=0.1,autocast=true,adversarial=[pgd:steps=5,eps=2/255]",
        0.05,
    ),
}


class MedFedPurePlus(Defense):
    """Experts trained on attacked images, mixed for each client (Kim et al. 2023); low confidence withholds the answer.

    Nothing here is random and nothing hides a gradient, so an attacker who knows the system gains little over one who
    does not. Purifying besides (``purifier=[ddim:steps=2]``) is possible and did not help on calibration images.
    """

    class Params(rbmed.Params):
        """Parameters of the recipe."""

        preset: Literal["small", "few"] = Field(
            "small",
            description="small: for thousands of images; few: for some hundred, trained longer, at half the eps.",
        )
        model: str = Field("resnet", description="Architecture of an expert.")
        strategy: str = Field("auto", description="Federated training; auto: pfeddef with adversarial training (PGD).")
        detector: str = Field("max-softmax", description="Score by which answers are withheld; 'none' answers always.")
        purifier: str = Field("none", description="Purifier of flagged images, which are then answered.")
        fpr: float | None = Field(
            None, gt=0, lt=1, description="Share of clean calibration images that may be flagged; none: 0.01, with "
            "preset=few 0.05."
        )  # fmt: skip

    def recipe(self) -> Recipe:
        """The parts."""
        p = self.params
        strategy, fpr = CHOICES[p.preset]
        return Recipe(
            model=parse(p.model),
            strategy=parse(strategy if p.strategy == "auto" else p.strategy),
            detector=part("detector", p.detector, p.preset),
            purifier=part("purifier", p.purifier, p.preset),
            fpr=fpr if p.fpr is None else p.fpr,
        )
