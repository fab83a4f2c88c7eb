"""An alternative to MedFedPure: classifiers trained adversarially, which abstain at low confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import robustbench_med as rbmed
from rbmed_medfedpure.recipes.presets import part, trained
from robustbench_med import Defense, Field, Recipe, parse


@dataclass(frozen=True)
class Choice:
    """What a preset means, chosen on calibration images (log in docs/plus.md).

    Attributes:
        strategy: the training.
        fpr: share of clean calibration images on which the system abstains.
        models: parameters of a model, by its name, which those that the user gives override.
    """

    strategy: str
    fpr: float
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


CHOICES = {
    "small": Choice("pfeddef:rounds=10,local_epochs=1,batch_size=16,autocast=true,adversarial=[pgd:steps=3]", 0.01),
    "few": Choice(
        "pfeddef:rounds=20,batch_size=16,shift=0.06,jitter=0.1,autocast=true,adversarial=[pgd:steps=5,eps=2/255]", 0.05
    ),
    "many": Choice(
        "fedavg:rounds=30,batch_size=32,shift=0.06,jitter=0.1,autocast=true,lr=1e-3,"
        "adversarial=[trades:steps=3,warmup=10]",
        0.01,
        {"resnet": {"layers": 2}},
    ),
}


class MedFedPurePlus(Defense):
    """Classifiers trained on attacked images that abstain at low confidence.

    Experts mixed for each client (pFedDef, Kim et al. 2023); with ``preset=many`` one deeper network trained with
    TRADES (Zhang et al. 2019, arXiv 1901.08573). Nothing is random and no gradient is hidden, so full knowledge of the
    system helps an attacker little. Purification (``purifier=[ddim:steps=2]``) is possible; it did not help on
    calibration images.
    """

    class Params(rbmed.Params):
        preset: Literal["small", "few", "many"] = Field(
            "small",
            description="small: for thousands of images; few: for some hundred, trained longer, at half the eps; many: "
            "for thousands, one deeper network trained longer, with TRADES.",
        )
        model: str = Field(
            "resnet", description="Architecture of an expert; preset=many has layers=2 unless other layers are given."
        )
        strategy: str = Field(
            "auto", description="Federated training; auto: pfeddef with PGD, with preset=many fedavg with TRADES."
        )
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
        choice = CHOICES[p.preset]
        return Recipe(
            model=trained("model", p.model, p.preset, choice.models.get(parse(p.model).name)),
            strategy=parse(choice.strategy if p.strategy == "auto" else p.strategy),
            detector=part("detector", p.detector, p.preset),
            purifier=part("purifier", p.purifier, p.preset),
            fpr=choice.fpr if p.fpr is None else p.fpr,
        )
