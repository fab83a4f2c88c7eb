"""Attacks of the Adversarial Robustness Toolbox (Nicolae et al., arXiv:1807.01069)."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from rbmed_peers.arguments import from_signature
from rbmed_peers.isolation import Opaque
from rbmed_peers.peer import NO_L0, OWNED, Catalogue, Offer, Passed, Peer, no_dlr
from rbmed_peers.starts import attack_from_start
from robustbench_med import Field, ThreatModel

_ORDER: dict[str, float] = {"linf": np.inf, "l2": 2, "l1": 1}

_NORMS = {
    name: norms
    for norms, names in {
        ("linf", "l2", "l1"): "FastGradientMethod MomentumIterativeMethod ProjectedGradientDescent "
        "ProjectedGradientDescentNumpy ProjectedGradientDescentPyTorch AutoProjectedGradientDescent "
        "AutoConjugateGradient RescalingAutoConjugateGradient",
        ("linf", "l2"): "HopSkipJump",
        # SquareAttack accepts norm 1 but returns the images unchanged, and norm 2 but divides by norms that may be 0.
        ("linf",): "SquareAttack BasicIterativeMethod CarliniLInfMethod",
        ("l2",): "BoundaryAttack CarliniL2Method DeepFool NewtonFool SignOPTAttack SimBA ZooAttack",
        ("l2", "l1"): "ElasticNet",
    }.items()
    for name in names.split()
}
_REFUSED = {
    "AutoAttack": "it needs the package multiprocess and its DLR loss three classes; use autoattack or pyautoattack",
    **dict.fromkeys(("CarliniL0Method", "PixelAttack", "SaliencyMapMethod"), NO_L0),
    "GeoDA": "it writes a file into the working folder and trusts one it finds there; use HopSkipJump",
    "VirtualAdversarialMethod": "it takes gradients by finite differences, pixel by pixel; use FastGradientMethod",
    "ThresholdAttack": "it counts eps in 255ths and needs a search of its own; use SquareAttack",
    **dict.fromkeys(("UniversalPerturbation", "TargetedUniversalPerturbation"), "it makes one change for all images"),
    **dict.fromkeys(
        ("ShadowAttack", "SpatialTransformation", "Wasserstein", "CompositeAdversarialAttackPyTorch"),
        "no threat model here bounds what it changes",
    ),
}
_OTHER = "it is not for classifying whole images under a norm"
_OWNED = {
    **OWNED,
    **dict.fromkeys(("estimator", "classifier"), "it is the attacked system"),
    **dict.fromkeys(("loss", "adv_criterion"), "it would be a function"),
    "summary_writer": "it would write files",
    "verbose": "progress is shown by rbmed",
}
_LOSSES: dict[str, tuple[str, ...]] = {"loss_type": ("cross_entropy", "difference_logits_ratio")}
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "AutoProjectedGradientDescent": _LOSSES,
    "AutoConjugateGradient": _LOSSES,
    "RescalingAutoConjugateGradient": _LOSSES,
    "SimBA": {"attack": ("dct", "px"), "order": ("random", "diag")},
    "ElasticNet": {"decision_rule": ("EN", "L1", "L2", "END")},
}
# Attacks that need probabilities; all others get logits.
_PROBABILITIES = ("NewtonFool", "SimBA")
# Many attacks take one image at a time by default; SimBA always does.
_BATCH = 64


def _offer(name: str) -> Offer:
    make = getattr(evasion, name)
    arguments = from_signature(make, _OWNED, (), _CHOICES.get(name))
    if name == "SimBA":
        del arguments["batch_size"]
    changed: dict[str, Any] = (
        {"batch_size": _BATCH} if "batch_size" in arguments and arguments["batch_size"].default == 1 else {}
    )
    if name == "DeepFool":  # an overshoot of 1e-6 ends on the boundary; 0.02 is the published one
        changed["epsilon"] = 0.02
    # The library's 0.1 belongs to its eps of 0.3; a step longer than eps is refused or clipped.
    return Offer(make, _NORMS[name], arguments, changed, {"eps_step": 1 / 3} if "eps_step" in arguments else {})


class ART(Peer):
    """An attack of ART, such as ``art:SquareAttack,max_iter=500``; see `rbmed_peers.peer.Peer`.

    Boundary and HopSkipJump would draw their starting points from a generator that cannot be seeded; they get them
    from `rbmed_peers.starts`, and an image for which there is none is returned as it is.
    """

    catalogue = Catalogue(
        library="art",
        distribution="adversarial-robustness-toolbox",
        logger="art",
        offers={name: _offer(name) for name in _NORMS},
        refused={
            **{name: _OTHER for name, cls in vars(evasion).items() if inspect.isclass(cls) and name not in _NORMS},
            **_REFUSED,
        },
        owned=_OWNED,
        without_gradient=frozenset(
            {"BoundaryAttack", "HopSkipJump", "SignOPTAttack", "SimBA", "SquareAttack", "ZooAttack"}
        ),
    )

    class Params(Passed):
        attack: str = Field(description=f"Name of its class: {', '.join(_NORMS)}.")

    Params.catalogue = catalogue

    def undefined(self, classes: int, side: int, channels: int, norm: str) -> str:
        """Where the library's code indexes logits that are not there."""
        if self.params.given.get("loss_type") == "difference_logits_ratio" and classes < 3:
            return no_dlr(classes, 3, "loss_type=cross_entropy or apgd:loss=margin")
        if self.name == "SignOPTAttack" and classes == 2:
            return "refuses 2 classes; use HopSkipJump"
        if self.name == "NewtonFool" and classes == 2:
            return "stops at probability 1/K, for 2 classes the boundary itself; use foolbox:NewtonFoolAttack"
        return ""

    def perturb(self, model: Opaque, x: Tensor, y: Tensor, threat: ThreatModel, classes: int, seed: int) -> Tensor:
        """The result of the library's ``generate``."""
        estimator = PyTorchClassifier(
            nn.Sequential(model, nn.Softmax(1)) if self.name in _PROBABILITIES else model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if x.device.type == "cuda" else "cpu",
        )
        values = self.arguments(threat, eps=threat.eps, norm=_ORDER[threat.norm], targeted=False, verbose=False)
        attack = self.make(estimator, **values)
        # Integer labels of two classes would be read as those of a single logit.
        one_hot = nn.functional.one_hot(y, classes)
        if self.name not in ("BoundaryAttack", "HopSkipJump"):
            return _generate(attack, x, one_hot)
        return attack_from_start(
            model,
            x,
            y,
            lambda rows, start: _generate(attack, x[rows], one_hot[rows], x_adv_init=start.cpu().numpy()),
        )


def _generate(attack: Any, x: Tensor, y: Tensor, **extra: Any) -> Tensor:
    made = attack.generate(x=x.cpu().numpy(), y=y.cpu().numpy(), **extra)
    return torch.from_numpy(np.asarray(made, dtype=np.float32)).to(x)
