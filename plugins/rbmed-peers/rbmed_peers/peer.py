"""What all adapters share: parameters from a catalogue of attacks, and the run under the harness's rules."""

from __future__ import annotations

import importlib.metadata
import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pydantic
import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_peers.arguments import Argument, near, read_all
from rbmed_peers.isolation import Opaque, seed_from, silenced
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel, isolated
from robustbench_med.errors import BadParameter, NotDefined

#: Parameters that a user cannot give, and where they come from.
OWNED = {
    "eps": "it is the threat model's (--eps)",
    "norm": "it is the threat model's (--norm)",
    "seed": "it follows from the seed of the run",
    "device": "it is that of the run",
    "targeted": "attacks are untargeted here",
}
#: Why an attack that bounds the number of changed pixels is not offered.
NO_L0 = "it measures L0, the number of changed pixels, which no threat model here has"


@dataclass(frozen=True)
class Offer:
    """One attack of a library.

    Attributes:
        make: the library's class.
        norms: norms of the threat model in which it works.
        arguments: what a user may give.
        changed: values used instead of the library's own defaults.
        scaled: step sizes as a share of eps, used unless given.
    """

    make: Callable[..., Any]
    norms: tuple[str, ...]
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    scaled: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalogue:
    """What a library offers.

    Attributes:
        library: name of the attack in robustbench-med.
        distribution: the package whose version is recorded.
        logger: root logger and import name of the library.
        offers: by the library's name.
        refused: why a name of the library is not offered.
        owned: why a parameter may not be given.
        without_gradient: attacks that never need one, so that the rung `query` runs them.
    """

    library: str
    distribution: str
    logger: str
    offers: Mapping[str, Offer]
    refused: Mapping[str, str] = field(default_factory=dict)
    owned: Mapping[str, str] = field(default_factory=lambda: OWNED)
    without_gradient: frozenset[str] = frozenset()

    def find(self, name: str) -> Offer:
        """The attack ``name``; raises `BadParameter` with near matches."""
        if name in self.refused:
            raise BadParameter(f"{self.library}:{name} is not offered: {self.refused[name]}")
        if name not in self.offers:
            hint = near(name, self.offers)
            raise BadParameter(f"{self.library} has no attack {name!r}{hint} valid: {', '.join(self.offers)}")
        return self.offers[name]


class Passed(rbmed.Params):
    """The name of an attack, and parameters that are passed to the library's class."""

    model_config = pydantic.ConfigDict(extra="allow")
    catalogue: ClassVar[Catalogue]

    attack: str = Field(description="Name of the attack in the library; its own parameters follow.")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Read every parameter by the signature of the attack's class."""
        if not isinstance(given, dict):
            return given
        catalogue = cls.catalogue
        if "attack" not in given:
            raise BadParameter(f"say which attack: {catalogue.library}:NAME; valid: {', '.join(catalogue.offers)}")
        name = given["attack"] if isinstance(given["attack"], str) else ",".join(map(str, given["attack"]))
        rest = {key: value for key, value in given.items() if key != "attack"}
        offer = catalogue.find(name)
        where = f"{catalogue.library}:{name}"
        return {"attack": name, **read_all(where, offer.arguments, rest, catalogue.owned)}

    @property
    def given(self) -> dict[str, Any]:
        """The user's parameters without the name."""
        return dict(self.model_extra or {})


class Peer(rbmed.Attack):
    """An attack of another library.

    The library sees a plain module and its own defaults, except where ``Offer.changed`` says otherwise. Images that
    the deployed, deterministic system gets wrong from the outset are returned as they are, and the library attacks the
    rest in one call; finding them costs one query. Its result is projected into the ball and [0, 1]. Random numbers
    depend on the streams of the batch, so a result depends on how images are batched.

    Raises:
        BadParameter: the attack does not work in the threat model's norm, or its class refuses a value.
        NotDefined: the attack does not exist for this number of classes or channels.
        BudgetExceeded: from the target model, in the middle of the library's code.
    """

    catalogue: ClassVar[Catalogue]
    Params: ClassVar[type[Passed]]

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.name: str = self.params.attack
        self.offer = self.catalogue.find(self.name)
        self.access = "scores" if self.name in self.catalogue.without_gradient else None

    @property
    def called(self) -> str:
        """For messages, such as ``torchattacks:PGD``."""
        return f"{self.catalogue.library}:{self.name}"

    def variant(self, num_classes: int, norm: str, random: bool = False) -> str:
        """The library's version, the attack, and the defaults that differ from the library's own."""
        version = importlib.metadata.version(self.catalogue.distribution)
        changed = {name: value for name, value in self.offer.changed.items() if name not in self.params.given}
        shown = "".join(f",{name}={value}" for name, value in changed.items())
        return f"{self.catalogue.library}-{version}:{self.name}{shown}"

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; an image that the library could not break is as the library returns it."""
        self.check_norm(threat.norm)
        if not len(x):
            return x.clone()
        x, y = x.detach(), y.detach().long()
        whole = Opaque(model.flexible(x), x.device)
        with torch.no_grad():
            logits = whole(x)
        if reason := self.undefined(logits.shape[1], x.shape[2], x.shape[1], threat.norm):
            raise NotDefined(f"{self.called} {reason}")
        correct = logits.argmax(1) == y
        left = (correct if model.stop_on_success else torch.ones_like(correct)).nonzero()[:, 0]
        result = x.clone()
        if len(left):
            seed = seed_from(rng)
            if len(left) < len(x):
                # The library queries these alone; so the target model need not guess which they are.
                whole = Opaque(model.at(left).flexible(x[left]), x.device)
            with isolated(seed), silenced(self.catalogue.logger):
                result[left] = self.perturb(whole, x[left], y[left], threat, logits.shape[1], seed).detach().to(x)
        return threat.project(result, x)

    def check_norm(self, norm: str) -> None:
        """Raise `BadParameter` if the attack does not work in ``norm``."""
        if norm not in self.offer.norms:
            others = [name for name, offer in self.catalogue.offers.items() if norm in offer.norms]
            raise BadParameter(
                f"{self.called} works in {', '.join(self.offer.norms)}, not in {norm}; in {norm}: {', '.join(others)}"
            )

    def undefined(self, classes: int, side: int, channels: int, norm: str) -> str:
        """Why the attack does not exist for such a system, and what to use instead; "" if it does."""
        return ""

    def arguments(self, threat: ThreatModel, **owned: Any) -> dict[str, Any]:
        """What the library's class gets besides the model; of ``owned``, the parameters that its constructor has."""
        known = inspect.signature(self.offer.make).parameters
        scaled = {name: share * threat.eps for name, share in self.offer.scaled.items()}
        owned = {name: value for name, value in owned.items() if name in known}
        return {**scaled, **self.offer.changed, **self.params.given, **owned}

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """The library's object; raises `BadParameter` where its class refuses a value."""
        try:
            return self.offer.make(*args, **kwargs)
        except (ValueError, TypeError, AssertionError) as error:
            raise BadParameter(f"{self.called} refuses its parameters: {' '.join(str(error).split())}") from error

    @abstractmethod
    def perturb(self, model: Opaque, x: Tensor, y: Tensor, threat: ThreatModel, classes: int, seed: int) -> Tensor:
        """The library's images for ``x``, before projection; N >= 1, ``classes`` >= 2."""


def no_dlr(classes: int, least: int, instead: str) -> str:
    """The reason that an attack with the DLR loss gives on too few classes."""
    return f"needs {least} classes (its DLR loss looks at {least} logits), not {classes}; use {instead}"


def tiles(side: int) -> bool:
    """Whether the first image of Square Attack in L2 and L1, about 5 x 5 tiles, fits into images of this side.

    The published code, which torchattacks copied, writes past the edge on sides 12, 14, 18, 19 and 24.
    """
    tile = side // 5
    return tile == 1 or (tile > 1 and (side - 5 * tile) // 2 + (side // tile) * tile <= side)
