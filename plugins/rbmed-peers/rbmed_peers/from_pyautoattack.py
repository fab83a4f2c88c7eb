"""The authors' AutoAttack (Croce & Hein, ICML 2020, arXiv:2003.01690), published on PyPI as pyautoattack."""

from __future__ import annotations

from typing import Any

import pyautoattack
from pyautoattack import checks
from torch import Tensor

import robustbench_med as rbmed
from rbmed_peers.arguments import Argument, near
from rbmed_peers.isolation import Opaque
from rbmed_peers.peer import OWNED, Catalogue, Offer, Passed, Peer, no_dlr, tiles
from robustbench_med import Field, ThreatModel
from robustbench_med.errors import BadParameter

NORMS = ("linf", "l2", "l1")
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
ATTACKS = VERSIONS["plus"]

_BATCH = {"batch_size": Argument((int,), 250)}
# What a list of attacks may set, and the library's objects that read it. Their own defaults stay unless given.
_READ_BY = {
    "n_iter": ("apgd", "apgd_targeted", "fab"),
    "n_restarts": ("apgd", "apgd_targeted", "fab", "square"),
    "eot_iter": ("apgd", "apgd_targeted"),
    "n_queries": ("square",),
    "n_target_classes": ("apgd_targeted", "fab"),
}
_CUSTOM = {
    "n_iter": Argument((int,), 100),
    "n_restarts": Argument((int,), None),
    "eot_iter": Argument((int,), 1),
    "n_queries": Argument((int,), 5000),
    "n_target_classes": Argument((int,), None),
    **_BATCH,
}


class _Versions(Catalogue):
    """The published versions, and any list of the attacks in them."""

    def find(self, name: str) -> Offer:
        """The version, or the list ``apgd-ce,fab``; raises `BadParameter` with near matches."""
        if name in self.offers:
            return self.offers[name]
        for attack in name.split(","):
            if attack.strip() not in ATTACKS:
                hint = near(attack, [*self.offers, *ATTACKS])
                valid = f"{', '.join(self.offers)}, or a list such as [apgd-ce,fab] of {', '.join(ATTACKS)}"
                raise BadParameter(f"{self.library} has no version or attack {attack!r}{hint} valid: {valid}")
        return Offer(pyautoattack.AutoAttack, NORMS, _CUSTOM)


class PyAutoAttack(Peer):
    """The authors' AutoAttack: a published version, or a list of its attacks; see `rbmed_peers.peer.Peer`.

    A version runs as published and takes no parameter but ``batch_size``. In a list the targets are the K - 1 that
    exist, at most 9, and L1 uses the published schedule of larger radii. Images that survive are returned clean.
    """

    catalogue = _Versions(
        library="pyautoattack",
        distribution="pyautoattack",
        logger="auto-attack",
        offers={name: Offer(pyautoattack.AutoAttack, NORMS, _BATCH) for name in VERSIONS},
        owned={
            **OWNED,
            **dict.fromkeys(_READ_BY, "a version runs as published; name its attacks: pyautoattack:[apgd-ce,fab]"),
        },
        without_gradient=frozenset({"square"}),
    )

    class Params(Passed):
        """The version or the list; a list takes parameters of its attacks."""

        attack: str = Field(description=f"Version, or a bracketed list of attacks: {', '.join([*VERSIONS, *ATTACKS])}.")

    Params.catalogue = catalogue

    @property
    def attacks(self) -> list[str]:
        """The attacks that run, in order."""
        return list(VERSIONS.get(self.name) or [attack.strip() for attack in self.name.split(",")])

    def undefined(self, classes: int, side: int, channels: int, norm: str) -> str:
        """Where the library's code indexes logits, targets or pixels that are not there."""
        if self.name in ("standard", "plus") and classes < 10:
            lists = {2: "apgd-ce,fab,square", 3: "apgd-ce,apgd-dlr,fab-t,square"}
            instead = lists.get(classes, ",".join(VERSIONS[self.name]))
            wanted = f"attacks 9 target classes and needs 10 classes, not {classes}"
            return f"{wanted}; use autoattack or pyautoattack:[{instead}]"
        if "apgd-t" in self.attacks and classes < 4:
            return f"apgd-t {no_dlr(classes, 4, 'fab-t in its place, or apgd:targeted=true,loss=margin')}"
        if "apgd-dlr" in self.attacks and classes < 3:
            return f"apgd-dlr {no_dlr(classes, 3, 'apgd-ce in its place, or apgd:loss=margin')}"
        if "square" in self.attacks and norm != "linf" and not tiles(side):
            return f"square in {norm} cannot tile images of side {side}; use square"
        targets = self.params.given.get("n_target_classes", 0)
        if targets > classes - 1:
            return (
                f"n_target_classes={targets}, but {classes} classes leave "
                f"{rbmed.plural(classes - 1, 'target')}; leave it out"
            )
        return ""

    def perturb(self, model: Opaque, x: Tensor, y: Tensor, threat: ThreatModel, classes: int, seed: int) -> Tensor:
        """The result of the library's evaluation with a fixed seed."""
        attack = evaluation(model, self.name, self.attacks, threat, classes, seed, x.device)
        given = self.params.given
        for name, readers in _READ_BY.items():
            for reader in readers if name in given else ():
                setattr(getattr(attack, reader), name, given[name])
        counted = dict(checks.funcs)
        try:
            images: Tensor = attack.run_standard_evaluation(x, y, batch_size=given.get("batch_size", 250))[0]
        finally:
            # The check for dynamic defenses adds up over models, so that one would speak for the next.
            checks.funcs.update(counted)
        return images


def evaluation(
    model: Any, name: str, attacks: list[str], threat: ThreatModel, classes: int, seed: int, device: Any
) -> pyautoattack.AutoAttack:
    """The library's object for a version or, under any other name, for the list of attacks."""
    settings = {"eps": threat.eps, "norm": threat.norm.capitalize(), "seed": seed, "device": device}
    if name in VERSIONS:
        return pyautoattack.AutoAttack(model, version=name, **settings)
    attack = pyautoattack.AutoAttack(model, version="custom", attacks=attacks, **settings)
    attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = min(9, classes - 1)
    attack.apgd.use_largereps = attack.apgd_targeted.use_largereps = threat.norm == "l1"
    return attack
