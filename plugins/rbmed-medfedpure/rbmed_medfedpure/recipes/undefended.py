"""The classifier alone, and the same classifier behind any detector and purifier."""

from __future__ import annotations

import robustbench_med as rbmed
from rbmed_medfedpure.recipes.presets import ABOUT, PresetName, part, trained
from robustbench_med import Defense, Field, PartRef, Recipe, format_ref
from robustbench_med.errors import BadParameter


class Undefended(Defense):
    """One FedAvg classifier for all clients, without detector and purifier."""

    class Params(rbmed.Params):
        preset: PresetName = Field("small", description=ABOUT)
        model: str = Field("resnet", description="Classifier architecture.")
        strategy: str = Field("fedavg", description="Federated training strategy.")

    def recipe(self) -> Recipe:
        """A model and a strategy."""
        p = self.params
        return Recipe(trained("model", p.model, p.preset), trained("strategy", p.strategy, p.preset))


class Shielded(Defense):
    """The undefended classifier behind a purifier, a detector, or both, for comparison with MedFedPure.

    With a detector and no purifier, flagged images are rejected; with a purifier and no detector, all are purified.
    """

    class Params(rbmed.Params):
        """Parameters of the recipe; those of a part as in ``purifier=[median:radius=2]``."""

        purifier: str = Field("jpeg", description="Purifier; 'none' rejects flagged images instead.")
        detector: str = Field("none", description="Detector; 'none' purifies every image.")
        fpr: float = Field(0.05, gt=0, lt=1, description="Share of clean calibration images that may be flagged.")
        strength: float | None = Field(
            None,
            ge=0,
            le=1,
            description="Strength of every purification; none: it follows the score; full without a detector.",
        )
        preset: PresetName = Field("small", description=ABOUT)
        model: str = Field("resnet", description="Classifier architecture.")
        strategy: str = Field("fedavg", description="Federated training strategy.")

    def recipe(self) -> Recipe:
        """The undefended classifier with these parts.

        Raises:
            BadParameter: neither a purifier nor a detector is given, or a strength without a purifier.
        """
        p = self.params
        if p.purifier == p.detector == "none":
            raise BadParameter("shielded: neither a detector nor a purifier is named; use the defense 'undefended'")
        if p.strength is not None and p.purifier == "none":
            raise BadParameter(f"shielded: strength={p.strength:g} needs a purifier, and purifier=none")
        return Recipe(
            model=trained("model", p.model, p.preset),
            strategy=trained("strategy", p.strategy, p.preset),
            detector=part("detector", p.detector, p.preset),
            purifier=part("purifier", p.purifier, p.preset),
            fpr=p.fpr,
            strength=p.strength,
        )


class DiffPure(Defense):
    """Every image is diffused to a fixed time and denoised (Nie et al. 2022), in front of the undefended classifier."""

    class Params(rbmed.Params):
        purifier: str = Field("diffpure", description="Purifier, with its parameters.")
        preset: PresetName = Field("small", description=ABOUT)
        model: str = Field("resnet", description="Classifier architecture.")
        strategy: str = Field("fedavg", description="Federated training strategy.")

    def recipe(self) -> Recipe:
        """The undefended classifier behind the purifier, at full strength."""
        p = self.params
        if p.purifier == "none":
            raise BadParameter("diffpure: purifier=none is the defense 'undefended'; use that one")
        return Recipe(
            model=trained("model", p.model, p.preset),
            strategy=trained("strategy", p.strategy, p.preset),
            purifier=part("purifier", p.purifier, p.preset),
        )


class Smoothed(Defense):
    """The undefended classifier under randomized smoothing, its noisy images denoised in one step first.

    Cohen et al. 2019 (1902.02918), Carlini et al. 2022 (2206.10550). `rbmed certify` certifies its radii in L2.
    """

    class Params(rbmed.Params):
        """Parameters of the recipe; those of a part as in ``denoiser=[one-step:width=48]``."""

        sigma: rbmed.Number = Field(
            0.25, gt=0, le=10, description="Standard deviation of the noise, for images in [0, 1]."
        )
        denoiser: str = Field(
            "one-step", description="Purifier of the noisy images; 'none' for a classifier trained on noise."
        )
        copies: int = Field(8, ge=1, description="Noisy copies that are voted on, outside of `rbmed certify`.")
        preset: PresetName = Field("small", description=ABOUT)
        model: str = Field("resnet", description="Classifier architecture.")
        strategy: str = Field("fedavg", description="Federated training strategy.")

    def recipe(self) -> Recipe:
        """The undefended classifier behind the smoothing purifier."""
        p = self.params
        denoiser = part("purifier", p.denoiser, p.preset)
        return Recipe(
            model=trained("model", p.model, p.preset),
            strategy=trained("strategy", p.strategy, p.preset),
            purifier=PartRef(
                "smoothed",
                {
                    "sigma": p.sigma,
                    "denoiser": "none" if denoiser is None else format_ref(denoiser),
                    "copies": p.copies,
                },
            ),
        )
