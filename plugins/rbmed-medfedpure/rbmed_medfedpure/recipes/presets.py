"""Presets: parts, and parameters of parts. Parameters that the user gives override them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from robustbench_med import PartRef, parse

PresetName = Literal["small", "few", "many", "paper"]
#: Description of the parameter ``preset`` of these recipes.
ABOUT = (
    "small: sized for 64 px; few: small, trained longer and with more augmentation, for a data set of some hundred "
    "images; many: the same for thousands of images; paper: the published networks and schedule, for 224 px "
    "(imagefolder:size=224)."
)

#: Parts with the same parameters: those of a training, and those of the diffusion network.
_STRATEGIES = (
    "apfl bulyan centralized ditto fedadam fedavg fedavgm fedbn fedem fedmedian fedmoe fedper fedprox fedrep "
    "fedtrimmedavg fedyogi krum local multikrum pfeddef"
)
STRATEGIES = tuple(_STRATEGIES.split())
DIFFUSION = ("ddpm", "ddim", "one-step", "diffpure", "gdmp", "gradual", "bridge")


@dataclass(frozen=True)
class RecipePreset:
    """Sizes and schedules.

    Attributes:
        purifier: MedFedPure's.
        score: the score of MedFedPure's detector.
        fpr: share of clean calibration images that MedFedPure may flag.
        params: parameters of the parts, by kind and name.
    """

    purifier: str
    score: str
    fpr: float
    params: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)


def _longer(schedule: Mapping[str, Any], autoencoder: Mapping[str, Any], diffusion: Mapping[str, Any]) -> RecipePreset:
    """``small`` with these schedules of its classifiers, autoencoders and diffusion networks."""
    params = {
        "strategy": dict.fromkeys(STRATEGIES, schedule),
        "detector": dict.fromkeys(("mae", "dram"), autoencoder),
        "purifier": dict.fromkeys(DIFFUSION, diffusion)
        | {"ddim": {**diffusion, "steps": 2}, "mae-repair": autoencoder},
    }
    return RecipePreset("ddim", "consistency", 0.05, params)


_FEW_SCHEDULE = {"rounds": 40, "batch_size": 16, "shift": 0.06, "jitter": 0.1, "autocast": True}
_FEW_AUTOENCODER = {"training": "fedavg:rounds=10,local_epochs=6,batch_size=32,lr=1e-3"}
_FEW_DIFFUSION = {"training": "fedavg:rounds=12,local_epochs=8,batch_size=32,lr=6e-4,autocast=true"}
_MANY_SCHEDULE = {"rounds": 30, "batch_size": 32, "shift": 0.06, "jitter": 0.1, "autocast": True}
_MANY_AUTOENCODER = {"training": "fedavg:rounds=12,local_epochs=10,batch_size=32,lr=1.5e-3,autocast=true"}
_MANY_DIFFUSION = {"training": "fedavg:rounds=14,local_epochs=3,batch_size=32,lr=6e-4,autocast=true"}
_RESNET18 = {"layers": 2, "width": 64}
_MIXTURE = {**_RESNET18, "experts": 3, "expert_hidden": 256, "gate_hidden": 64, "beta": 1e-4, "gamma": 0.1}
_SCHEDULE = {
    "rounds": 20,
    "local_epochs": 15,
    "batch_size": 32,
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "autocast": True,
}
_AUTOENCODER = {
    "patch": 16,
    "width": 512,
    "depth": 12,
    "decoder_width": 512,
    "decoder_depth": 8,
    "heads": 8,
    "mask_ratio": 0.75,
    # 30 epochs, as published. Rounds, rate and batch are ours: the paper does not state the detector's training.
    "training": "fedavg:rounds=10,local_epochs=3,batch_size=32,lr=3e-4,autocast=true",
}
_DIFFUSION = {
    # 7.55 M parameters; the authors' code has 7.47 M, and the paper does not describe the network.
    "width": 56,
    "levels": 3,
    "blocks": 1,
    "fold": 2,
    "train_t_max": 1000,
    "training": "fedavg:rounds=20,local_epochs=15,batch_size=32,lr=2e-4,autocast=true",
}

PRESETS: dict[str, RecipePreset] = {
    "small": RecipePreset("ddim", "consistency", 0.05, {"purifier": {"ddim": {"steps": 2}}}),
    "few": _longer(_FEW_SCHEDULE, _FEW_AUTOENCODER, _FEW_DIFFUSION),
    "many": _longer(_MANY_SCHEDULE, _MANY_AUTOENCODER, _MANY_DIFFUSION),
    "paper": RecipePreset(
        "ddpm",
        "reconstruction",
        0.18,
        {
            "model": {"moe": _MIXTURE, "resnet": _RESNET18},
            "strategy": dict.fromkeys(STRATEGIES, _SCHEDULE),
            "detector": dict.fromkeys(("mae", "dram"), _AUTOENCODER),
            "purifier": dict.fromkeys(DIFFUSION, _DIFFUSION)
            | {"ddpm": {**_DIFFUSION, "t_min": 50, "t_max": 150}, "mae-repair": _AUTOENCODER},
        },
    ),
}


def part(kind: str, text: str, preset: str, more: Mapping[str, Any] | None = None) -> PartRef | None:
    """The part that ``text`` names, None for ``none``.

    Parameters in ``text`` override those of ``more``, and these override the preset's.
    """
    if text == "none":
        return None
    ref = parse(text)
    known = PRESETS[preset].params.get(kind, {}).get(ref.name.rpartition("/")[2], {})
    return PartRef(ref.name, {**known, **(more or {}), **ref.params})


def trained(kind: str, text: str, preset: str, more: Mapping[str, Any] | None = None) -> PartRef:
    """As `part`, for a model or a strategy, which every defense has."""
    ref = parse(text)
    return part(kind, text, preset, more) or ref
