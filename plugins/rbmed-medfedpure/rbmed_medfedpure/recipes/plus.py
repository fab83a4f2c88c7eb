"""An alternative to MedFedPure: adversarially trained personalized experts that abstain at low confidence."""

from __future__ import annotations

from typing import Literal

import robustbench_med as rbmed
from rbmed_medfedpure.recipes.presets import part
from robustbench_med import Defense, Field, Recipe, parse

#: By preset: the training of the experts, and the share of clean calibration images on which they abstain. Both were
#: chosen on calibration images (log in docs/medfedpure.md).
CHOICES: dict[str, tuple[str, float]] = {
    "small": (
        "pfeddef:rounds=10,local_epochs=1,batch_size=16,autocast=true,adversarial=[pgd:steps=3]",
        0.01,
    ),
    "few": (
        "pfeddef:rounds=20,batch_size=16,shift=0.06,jitter=0.1,autocast=true,adversarial=[pgd:steps=5,eps=2/255]",
        0.05,
    ),
    "many": (
        "pfeddef:rounds=30,local_epochs=1,batch_size=32,shift=0.06,jitter=0.1,autocast=true,adversarial=[pgd:steps=3]",
        0.01,
    ),
}


class MedFedPurePlus(Defense):
    """Experts trained on attacked images, mixed for each client (Kim et al. 2023); they abstain at low confidence.

    Nothing is random and no gradient is hidden, so full knowledge of the system helps an attacker little. Purification
    (``purifier=[ddim:steps=2]``) is possible; it did not help on calibration images.
    """

    class Params(rbmed.Params):
        preset: Literal["small", "few", "many"] = Field(
            "small",
            description="small: for thousands of images; few: for some hundred, trained longer, at half the eps; many: "
            "for thousands, trained longer.",
        )
        model: str = Field("resnet", description="Architecture of an expert.")
        strategy: str = Field("auto", description="Federated training; auto: pfeddef with adversarial training (PGD).")
        detector: str = Field(
            "max-softmax", description="Score above which the defense abstains; 'none': it never does."
        )
        purifier: str = Field("none", description="Purifier of flagged images, which are then classified.")
        fpr: float | None = Field(
            None,
            gt=0,
            lt=1,
            description="Share of clean calibration images that may be flagged; none: 0.01, with preset=few 0.05.",
        )

    def recipe(self) -> Recipe:
        """The parts of the defense."""
        p = self.params
        strategy, fpr = CHOICES[p.preset]
        return Recipe(
            model=parse(p.model),
            strategy=parse(strategy if p.strategy == "auto" else p.strategy),
            detector=part("detector", p.detector, p.preset),
            purifier=part("purifier", p.purifier, p.preset),
            fpr=fpr if p.fpr is None else p.fpr,
        )
