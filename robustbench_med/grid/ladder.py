"""The access ladder: which attack runs from which rung, cheapest first.

The robustness of a defense is that of the worst rung, image by image (Tramer et al. 2020, arXiv:2002.08347).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

from robustbench_med.attacks.rung import RungRef
from robustbench_med.errors import UsageError
from robustbench_med.plugins.references import format_ref, parse

if TYPE_CHECKING:
    from robustbench_med.attacks.rung import Rung
    from robustbench_med.defenses.resolved import ResolvedDefense
    from robustbench_med.interfaces.threat import ThreatModel

#: Bumped whenever a preset changes, since its numbers would.
REVISION = 2


Systems = Literal["static", "random", "any"]
#: Attacks of the rung `gate` in the preset `full`.
GATE: tuple[tuple[str, int, Systems], ...] = (("apgd", 1, "static"), ("momentum:steps=40", 4, "random"))


@dataclass(frozen=True)
class Preset:
    """A ladder by name, and how many images it is meant for (None: all)."""

    rungs: tuple[RungRef, ...] = field(default_factory=tuple)
    limit: int | None = None


def _rung(
    access: str, attack: str, eot: int = 1, evasion: str = "", rounds: int = 1, systems: Systems = "any"
) -> RungRef:
    return RungRef(access, parse(attack), eot, evasion, rounds, systems)


#: From the weakest to the strongest.
PRESETS = {
    # A minute or two on two cores: shows where a defense gives way, not that it holds.
    "quick": Preset(
        (
            _rung("oblivious", "apgd:steps=20"),
            _rung("transfer", "apgd:steps=20"),
            _rung("boundary", "boundary:steps=20,draws=4"),
            _rung("bpda", "apgd:steps=20", systems="static"),
            _rung("bpda", "momentum:steps=10", eot=2, systems="random"),
            _rung("gate", "apgd:steps=20", evasion="selective", systems="static"),
            _rung("gate", "momentum:steps=10", eot=2, evasion="selective", systems="random"),
            _rung("full", "apgd:steps=20", systems="static"),
            _rung("full", "momentum:steps=15", eot=2, systems="random"),
            _rung("query", "square:queries=100,resc_schedule=true"),
        ),
        limit=64,
    ),
    # Up to an hour on two cores for a system whose purifier is a network, minutes on a GPU.
    "standard": Preset(
        (
            _rung("oblivious", "apgd"),
            _rung("transfer", "apgd"),
            _rung("insider", "apgd"),
            _rung("boundary", "boundary"),
            _rung("bpda", "apgd", systems="static"),
            _rung("bpda", "momentum", rounds=2, systems="static"),
            _rung("bpda", "momentum", eot=2, systems="random"),
            _rung("gate", "apgd:steps=50", evasion="orthogonal", systems="static"),
            _rung("gate", "apgd:steps=50", evasion="selective", systems="static"),
            _rung("gate", "momentum", eot=2, evasion="selective", systems="random"),
            _rung("full", "apgd", systems="static"),
            _rung("full", "momentum", rounds=2, systems="static"),
            _rung("full", "momentum:steps=50", eot=2, rounds=3, systems="random"),
            _rung("query", "square:queries=500,resc_schedule=true"),
        ),
        limit=64,
    ),
    # The strongest: all images, and where the system draws noise up to 2,000 gradients for each.
    "full": Preset(
        (
            _rung("oblivious", "autoattack"),
            _rung("transfer", "apgd"),
            _rung("insider", "apgd"),
            _rung("boundary", "boundary:steps=100"),
            _rung("bpda", "apgd:restarts=2", systems="static"),
            _rung("bpda", "momentum:steps=50", rounds=2, systems="static"),
            _rung("bpda", "momentum:steps=25", eot=4, rounds=2, systems="random"),
            *(
                _rung("gate", attack, eot, evasion, systems=systems)
                for attack, eot, systems in GATE
                for evasion in ("orthogonal", "selective", "joint:1")
            ),
            _rung("full", "apgd:restarts=2", systems="static"),
            _rung("full", "momentum:steps=50", rounds=2, systems="static"),
            _rung("full", "momentum:steps=100,warm=false", eot=4, systems="random"),
            _rung("full", "momentum:steps=100", eot=4, rounds=4, systems="random"),
            _rung("query", "square:queries=2000,resc_schedule=true"),
        )
    ),
}


def preset(name: str) -> Preset:
    """The ladder of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown ladder {name!r} (--access ladder:NAME); valid: {', '.join(PRESETS)}")
    return PRESETS[name]


#: A rung of a ladder: access, attack as on the command line, noise draws, evasion.
RungFacts = tuple[str, str, int | None, str]


@cache
def having(rungs: frozenset[RungFacts]) -> str:
    """The weakest preset that has all of these rungs for one kind of system; "" where none has."""
    for name, ladder in PRESETS.items():
        for kind in ("static", "random"):
            known = {
                (rung.access, format_ref(rung.attack), rung.eot, rung.evasion)
                for rung in ladder.rungs
                if rung.systems in ("any", kind)
            }
            if rungs <= known:
                return name
    return ""


#: Why an undefended classifier has no rungs above the first.
BARE = "nothing besides the classifier is deployed: `oblivious` already sees the whole system"


def revision_of(rung: Rung, defense: ResolvedDefense, ladder: bool) -> int:
    """The revision of how a rung attacks, which is part of a cell's id; ``ladder``: it is one of several.

    With the second one only ladders changed, and what attackers see of a detector.
    """
    return REVISION if ladder or (rung.sees_defense and defense.detector is not None) else 1


def meant_for(rung: Rung, defense: ResolvedDefense) -> bool:
    """The rung belongs to the ladder of this kind of system: with noise, or without."""
    parts = (defense.detector, defense.purifier)
    random = any(part is not None and part.stochastic for part in parts)
    return rung.ref.systems in ("any", "random" if random else "static")


def inapplicable(rung: Rung, threat: ThreatModel, defense: ResolvedDefense) -> str | None:
    """Why this rung cannot run against a defense under a threat model; None where it can.

    The reasons are in published records, which `rbmed verify` compares word for word: do not reword them.
    """
    attack, access = rung.ref.attack.name, rung.access
    if threat.norm not in rung.norms:
        return f"attack {attack!r} is not defined for {threat.norm}; it knows {', '.join(rung.norms)}"
    if access == "query" and rung.follows_gradient:
        return f"attack {attack!r} needs gradients and `query` gives none; use square or hopskipjump"
    if defense.bare and access in ("boundary", "bpda", "full", "gate"):
        return BARE
    if access == "full" and defense.purifier is not None and not defense.purifier.differentiable:
        return f"purifier {defense.purifier.spec_name!r} has no gradient, so there is no exact one; use bpda"
    if access == "boundary" and defense.detector is None:
        return "there is no detector that a small margin could evade"
    if access == "gate" and defense.detector is None:
        return "there is no detector to keep quiet: `full` already sees the whole system"
    return None
