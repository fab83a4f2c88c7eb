"""Attacks of Foolbox (Rauber et al., JOSS 2020, doi:10.21105/joss.02607)."""

from __future__ import annotations

import inspect
import warnings
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from rbmed_peers.arguments import from_signature
from rbmed_peers.isolation import Opaque
from rbmed_peers.peer import NO_L0, OWNED, Catalogue, Offer, Passed, Peer
from rbmed_peers.starts import attack_from_start
from robustbench_med import Field, ThreatModel

with warnings.catch_warnings():
    # Foolbox 3.3.4 imports scipy.ndimage.filters, which SciPy 1.17 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox
    from foolbox import distances
    from foolbox.attacks import base
    from foolbox.models.pytorch import PyTorchModel

_NORM_OF = {distances.linf: "linf", distances.l2: "l2", distances.l1: "l1"}
_DISTANCE = {norm: distance for distance, norm in _NORM_OF.items()}
_OWNED = {
    **OWNED,
    "distance": OWNED["norm"],
    "constraint": OWNED["norm"],
    "init_attack": "starting points are found by rbmed",
    "tensorboard": "it would write files",
    "channel_axis": "it is that of PyTorch",
}
_REFUSED = {
    "DatasetAttack": "it needs other images to be fed first",
    "GenAttack": "it needs a target class",
    "SpatialAttack": "it rotates and shifts images, which no threat model here bounds",
    "BinarizationRefinementAttack": "it refines the result of another attack on binary images",
    "PointwiseAttack": "Foolbox 3.3.4 cannot call it with an epsilon (it never sets its distance)",
    "VirtualAdversarialAttack": "it divides by a gradient that may be 0 and returns NaN; use L2FastGradientAttack",
    **dict.fromkeys(("L0FMNAttack", "L0BrendelBethgeAttack"), NO_L0),
}


def _norms(name: str, cls: Any) -> tuple[str, ...]:
    if name == "HopSkipJumpAttack":  # declares the L1 distance, whatever it minimises
        return ("linf", "l2")
    if issubclass(cls, base.FlexibleDistanceMinimizationAttack):
        return tuple(_DISTANCE)
    distance = cls.distance
    if isinstance(distance, property):  # additive noise
        return ("linf",) if name.startswith("Linf") else ("l2",)
    return (_NORM_OF[distance],) if distance in _NORM_OF else ()


def _offers() -> dict[str, Offer]:
    offers = {}
    for name, cls in vars(foolbox.attacks).items():
        if not inspect.isclass(cls) or inspect.isabstract(cls) or name in _REFUSED:
            continue
        if "BrendelBethge" in name and find_spec("numba") is None:
            _REFUSED[name] = "it needs the package numba"
            continue
        if issubclass(cls, base.AttackWithDistance) and (norms := _norms(name, cls)):
            offers[name] = Offer(cls, norms, from_signature(cls, _OWNED, ("confidence",)))
    return offers


_OFFERS = _offers()
#: Noise, contrast, blur, and searches along the decision boundary.
_WITHOUT_GRADIENT = frozenset(
    name
    for name in _OFFERS
    if any(word in name for word in ("Noise", "Contrast", "Inversion", "Blur", "Boundary", "HopSkipJump"))
    and "BrendelBethge" not in name
)


class Foolbox(Peer):
    """An attack of Foolbox, such as ``foolbox:LinfPGD,steps=40``; see `rbmed_peers.peer.Peer`.

    Attacks that minimise the distance run too; what lies outside the ball afterwards is projected. Those that need a
    starting point get one from `rbmed_peers.starts`; an image for which there is none is returned as it is.
    """

    catalogue = Catalogue("foolbox", "foolbox", "foolbox", _OFFERS, _REFUSED, _OWNED, _WITHOUT_GRADIENT)

    class Params(Passed):
        attack: str = Field(description=f"Name of its class: {', '.join(_OFFERS)}.")

    Params.catalogue = catalogue

    def perturb(self, model: Opaque, x: Tensor, y: Tensor, threat: ThreatModel, classes: int, seed: int) -> Tensor:
        """The result of calling the library's attack with the one epsilon."""
        attack = self.make(**self.arguments(threat, distance=_DISTANCE[threat.norm], constraint=threat.norm))
        adapter = PyTorchModel(model, bounds=(0, 1), device=x.device)

        def call(x: Tensor, y: Tensor, **start: Tensor) -> Tensor:
            # The first result, before Foolbox clips it: some attacks declare another norm than they minimise.
            images: Tensor = attack(adapter, x, y, epsilons=threat.eps, **start)[0]
            return images

        # FMN may start elsewhere, but is meant to start at the image, and is far weaker otherwise.
        if "init_attack" not in inspect.signature(self.offer.make).parameters or "FMN" in self.name:
            return call(x, y)
        return attack_from_start(model, x, y, lambda rows, start: call(x[rows], y[rows], starting_points=start))
