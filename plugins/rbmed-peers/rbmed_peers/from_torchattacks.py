"""Attacks of torchattacks (Kim, arXiv:2010.01950)."""

from __future__ import annotations

from typing import Any

import torchattacks
from torch import Tensor

from rbmed_peers.arguments import from_signature
from rbmed_peers.isolation import Opaque
from rbmed_peers.peer import NO_L0, OWNED, Catalogue, Offer, Passed, Peer, no_dlr, tiles
from robustbench_med import Field, ThreatModel
from robustbench_med.errors import BadParameter

#: Attacks with a step size, whose default is a quarter of the library's eps.
_STEPPING = "BIM RFGSM PGD EOTPGD TPGD MIFGSM UPGD DIFGSM TIFGSM Jitter NIFGSM PGDRS SINIFGSM VMIFGSM VNIFGSM"
_NORMS = {
    name: norms
    for norms, names in {
        ("linf",): f"FGSM {_STEPPING} FFGSM SPSA PIFGSM PIFGSMPP",
        ("l2",): "CW PGDL2 PGDRSL2 DeepFool",
        ("linf", "l2"): "APGD APGDT Square AutoAttack FAB",
        ("l1",): "EADL1",
        ("l2", "l1"): "EADEN",
    }.items()
    for name in names.split()
}

# The library's 10 steps are a tenth of what Auto-PGD and FAB were published with, and its Square rescales the schedule
# to the number of queries, which is much weaker.
_CHANGED: dict[str, dict[str, Any]] = {
    "APGD": {"steps": 100},
    "APGDT": {"steps": 100},
    "FAB": {"steps": 100},
    "Square": {"resc_schedule": False},
}
# Step sizes are absolute in the library; here they keep its proportion to its own default of eps.
_ALPHA = {**dict.fromkeys(_STEPPING.split(), 1 / 4), "FFGSM": 10 / 8, "PGDL2": 1 / 5, "PGDRSL2": 1 / 5}
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "APGD": {"loss": ("ce", "dlr")},
    "Square": {"loss": ("margin", "ce")},
    "UPGD": {"loss": ("ce", "margin", "dlr")},
    "TIFGSM": {"kernel_name": ("gaussian", "linear", "uniform")},
    "PGDRS": {"noise_type": ("guassian", "uniform")},  # the library's spelling
    "PGDRSL2": {"noise_type": ("guassian", "uniform")},
    "AutoAttack": {"version": ("standard", "plus", "rand")},
}
_OWNED = {
    **OWNED,
    "max_epsilon": OWNED["eps"],
    "n_classes": "it is that of the data",
    "verbose": "progress is shown by rbmed",
}


def _as_published(ensemble: Any) -> None:
    """Give the parts of the library's AutoAttack their published settings, which its constructor does not pass on."""
    for part in ensemble._autoattack.attacks:
        if isinstance(part, torchattacks.Square):
            part.rescale_schedule = False
        else:
            part.steps = 100


def _offer(name: str) -> Offer:
    make = getattr(torchattacks, name)
    arguments = from_signature(make, {"model", *_OWNED}, ("c", "kappa", "scale"), _CHOICES.get(name))
    return Offer(
        make, _NORMS[name], arguments, _CHANGED.get(name, {}), {"alpha": _ALPHA[name]} if name in _ALPHA else {}
    )


class TorchAttacks(Peer):
    """An attack of torchattacks, such as ``torchattacks:PGD,steps=20``; see `rbmed_peers.peer.Peer`."""

    catalogue = Catalogue(
        library="torchattacks",
        distribution="torchattacks",
        logger="torchattacks",
        offers={name: _offer(name) for name in _NORMS},
        refused={
            **dict.fromkeys(("JSMA", "OnePixel", "Pixle", "SparseFool"), NO_L0),
            "GN": "its noise does not depend on eps; use the control 'noise'",
            "VANILA": "it changes nothing; use the control 'clamp'",
            "MultiAttack": "it needs other attacks; name them one by one",
            "LGV": "it needs training data",
        },
        owned=_OWNED,
        without_gradient=frozenset({"SPSA", "Square"}),
    )

    class Params(Passed):
        attack: str = Field(description=f"Name of its class: {', '.join(_NORMS)}.")

    Params.catalogue = catalogue

    def undefined(self, classes: int, side: int, channels: int, norm: str) -> str:
        """Where the library's code indexes logits, channels or pixels that are not there."""
        given, name = self.params.given, self.name
        dlr = given.get("loss") == "dlr" or (name == "AutoAttack" and given.get("version") == "rand")
        if dlr and classes < 3:
            return no_dlr(classes, 3, "apgd:loss=margin")
        if (name == "APGDT" or (name == "AutoAttack" and not dlr)) and classes < 4:
            return no_dlr(classes, 4, "apgd:targeted=true,loss=margin" if name == "APGDT" else "autoattack")
        if name in ("TIFGSM", "PIFGSM", "PIFGSMPP") and channels != 3:
            return f"convolves 3 channels, the images have {channels}; use torchattacks:MIFGSM"
        if name in ("Square", "AutoAttack") and norm == "l2" and not tiles(side):
            return f"in l2 cannot tile images of side {side}; use square"
        return ""

    def perturb(self, model: Opaque, x: Tensor, y: Tensor, threat: ThreatModel, classes: int, seed: int) -> Tensor:
        """The result of calling the library's attack."""
        owned = {"max_epsilon": threat.eps, "norm": threat.norm.capitalize(), "n_classes": classes}
        values = self.arguments(threat, eps=threat.eps, seed=seed, **owned)
        if values.get("max_iterations", 100) < 10 and values.get("abort_early", True):
            raise BadParameter(f"{self.called} needs max_iterations >= 10, or abort_early=false")
        attack = self.make(model, **values)
        if self.name == "AutoAttack":
            _as_published(attack)
        images: Tensor = attack(x, y)
        return images
