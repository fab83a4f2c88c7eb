"""MedFedPure (Karami et al. 2025, arXiv 2511.11625) and its ablations."""

from __future__ import annotations

from typing import Any, Literal, Self

import pydantic

import robustbench_med as rbmed
from rbmed_medfedpure.recipes.presets import ABOUT, PRESETS, PresetName, part, trained
from robustbench_med import Defense, Field, Recipe, parse
from robustbench_med.errors import BadParameter

#: The parameters of each variant. Without a detector every image is purified at full strength. With the purifier
#: `identity`, flagged images are classified unchanged, so that the detector is still measured.
ABLATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "no-detector": {"detector": "none"},
    "no-purifier": {"purifier": "identity"},
    "fixed-strength": {"strength": 0.5},
    "shared-gates": {"gate": "shared"},
    "fedavg-backbone": {"model": "resnet", "strategy": "fedavg"},
    "random-detector": {"detector": "random"},
}
#: Purifiers that return the image unchanged, so that a score cannot compare the two.
UNCHANGED = ("none", "identity", "clamp")


class MedFedPure(Defense):
    """MedFedPure; every part can be swapped.

    The score is a parameter because the published one is blind to small perturbations (docs/medfedpure.md).
    """

    class Params(rbmed.Params):
        """Parameters of the recipe. Parameters of a part, as in ``detector=[mae:passes=8]``, override them.

        Experts, gates and backbone are parameters of the model `moe`; rounds, epochs, batch and rate of the strategy
        `fedmoe`; the autoencoder's of the detector `mae`; the network's and the sampler's of the purifiers `ddim` and
        `ddpm`; clients and label skew of the partition; the side of the images of the data set.
        """

        preset: PresetName = Field("small", description=ABOUT)
        ablation: Literal[
            "none", "no-detector", "no-purifier", "fixed-strength", "shared-gates", "fedavg-backbone", "random-detector"
        ] = Field("none", description="Component of the method to remove or replace.")
        score: Literal["auto", "reconstruction", "consistency", "combined"] = Field(
            "auto",
            description="The detector's score; 'reconstruction' is the published one; auto: consistency, with "
            "preset=paper reconstruction. Where nothing is purified, consistency compares with the reconstruction.",
        )
        fpr: float | None = Field(
            None,
            gt=0,
            lt=1,
            description="Share of clean calibration images that may be flagged (kappa); none: 0.05, with "
            "preset=paper 0.18.",
        )
        gate: Literal["local", "shared"] = Field(
            "local", description="Attention nets stay with the client (personalized) or are averaged (authors' code)."
        )
        strength: float | None = Field(
            None, ge=0, le=1, description="Strength of every purification; none: by the score, as published."
        )
        t_min: int | None = Field(None, ge=1, description="Diffusion time at strength 0; none: the purifier's, 50.")
        t_max: int | None = Field(None, ge=1, description="Diffusion time at strength 1; none: the purifier's, 150.")
        model: str = Field("moe", description="Classifier architecture.")
        strategy: str = Field("fedmoe", description="Federated training strategy.")
        detector: str = Field("mae", description="Detector; 'random' is the control, 'none' purifies every image.")
        purifier: str = Field(
            "auto", description="Purifier; auto: ddim:steps=2, with preset=paper ddpm; 'none' rejects flagged images."
        )

        @pydantic.model_validator(mode="after")
        def _consistent(self) -> Self:
            for name, meant in ABLATIONS[self.ablation].items():
                given = getattr(self, name)
                if name in self.model_fields_set and name != "strength" and parse(given).name != meant:
                    raise ValueError(
                        f"ablation={self.ablation} means {name}={meant}, not {name}={given}; leave one of both"
                    )
            return self

    def recipe(self) -> Recipe:
        """The parts: parameters that the user gave to a part override the recipe's, and these override the preset's.

        Raises:
            BadParameter: a parameter belongs to a part that is left out.
        """
        p, preset = self.params, PRESETS[self.params.preset]
        # Only the given parameters: the others are left to the preset and to the part, which may not have them.
        given = {**ABLATIONS[p.ablation], **{name: getattr(p, name) for name in p.model_fields_set}}
        gate = _only(given, "gate")
        times = _only(given, "t_min", "t_max")
        score = _only({"score": p.score}, "score") if p.score != "auto" else {}
        detector, purifier = given.get("detector", p.detector), given.get("purifier", p.purifier)
        _needed("detector", detector, {**score, **_only(given, "fpr")})
        _needed("purifier", purifier, {**times, **_only(given, "strength")})
        if parse(detector).name == "mae":
            score = {"score": preset.score, **score}
            if purifier in UNCHANGED:
                score["reference"] = "reconstruction"
        return Recipe(
            model=trained("model", given.get("model", p.model), p.preset, gate),
            strategy=trained("strategy", given.get("strategy", p.strategy), p.preset, gate),
            detector=part("detector", detector, p.preset, score),
            purifier=part("purifier", preset.purifier if purifier == "auto" else purifier, p.preset, times),
            fpr=preset.fpr if p.fpr is None else p.fpr,
            strength=given.get("strength"),
        )


def _only(params: dict[str, Any], *names: str) -> dict[str, Any]:
    """The named parameters that have a value."""
    return {name: params[name] for name in names if params.get(name) is not None}


def _needed(kind: str, text: str, params: dict[str, Any]) -> None:
    """Raise `BadParameter` for parameters of a part that is left out."""
    if text == "none" and params:
        name, value = next(iter(params.items()))
        raise BadParameter(f"medfedpure: {name}={value} needs a {kind}, and there is none")
