"""The recipes: which parts, with which parameters. The parts themselves are plugins of their own."""

from __future__ import annotations

from typing import Any, Literal

import robustbench_med as rbmed
from robustbench_med import Defense, Field, PartRef, Recipe, parse


class MedFedPure(Defense):
    """MedFedPure as published, sized for the embedded data; every part can be swapped.

    The score is a parameter because the published one is blind to small perturbations (docs/medfedpure.md).
    """

    class Params(rbmed.Params):
        """Parameters of the recipe. Each part takes its own as ``detector=[mae:epochs=10]``."""

        score: Literal["reconstruction", "consistency", "combined"] = Field(
            "consistency", description="The detector's score; 'reconstruction' is the published one."
        )
        fpr: float = Field(0.05, gt=0, lt=1, description="Share of clean calibration images that may be flagged.")
        gate: Literal["local", "shared"] = Field(
            "local", description="Attention nets stay with the client (personalized) or are averaged (authors' code)."
        )
        model: str = Field("moe", description="Classifier architecture.")
        strategy: str = Field("fedmoe", description="Federated training strategy.")
        detector: str = Field("mae", description="Detector; 'random' is the control, 'none' purifies every image.")
        purifier: str = Field("ddpm", description="Purifier; 'none' rejects flagged images instead.")

    def recipe(self) -> Recipe:
        """The parts, with this recipe's parameters filled in where the named part knows them."""
        p = self.params
        return Recipe(
            model=_part(p.model, {"moe": {"gate": p.gate}}),
            strategy=_part(p.strategy, {"fedmoe": {"gate": p.gate}}),
            detector=None if p.detector == "none" else _part(p.detector, {"mae": {"score": p.score}}),
            purifier=None if p.purifier == "none" else _part(p.purifier, {}),
            fpr=p.fpr,
        )


class Undefended(Defense):
    """One FedAvg classifier for all clients, nothing around it."""

    class Params(rbmed.Params):
        """Parameters of the recipe."""

        model: str = Field("resnet", description="Classifier architecture.")
        strategy: str = Field("fedavg", description="Federated training strategy.")

    def recipe(self) -> Recipe:
        """A model and a strategy."""
        return Recipe(model=parse(self.params.model), strategy=parse(self.params.strategy))


def _part(text: str, defaults: dict[str, dict[str, Any]]) -> PartRef:
    """The part named by ``text``; what the user wrote there wins over the recipe's parameters."""
    ref = parse(text)
    return PartRef(ref.name, {**defaults.get(ref.name, {}), **ref.params})
