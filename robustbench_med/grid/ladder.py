"""The access ladder: which attacks are tried from which rung, cheapest first.

A defense is worth what its worst rung leaves standing, image by image (Tramer et al. 2020, arXiv:2002.08347).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from robustbench_med.errors import UsageError
from robustbench_med.plugins.references import PartRef, parse

if TYPE_CHECKING:
    from robustbench_med.defenses.resolved import ResolvedDefense
    from robustbench_med.interfaces.threat import ThreatModel

#: Bumped whenever a preset changes, since its numbers would.
REVISION = 1


@dataclass(frozen=True)
class Rung:
    """One attack from one rung.

    Attributes:
        access: what the adversary sees.
        attack: the attack, by name.
        eot: noise draws averaged in each call; None takes the run's.
        evasion: how the rung `gate` keeps the detector quiet: ``orthogonal`` or ``joint:WEIGHT``.
    """

    access: str
    attack: PartRef
    eot: int | None = None
    evasion: str = ""


@dataclass(frozen=True)
class Preset:
    """A ladder by name, and how many images it is meant for (None: all)."""

    rungs: tuple[Rung, ...] = field(default_factory=tuple)
    limit: int | None = None


def _rung(access: str, attack: str, eot: int = 1, evasion: str = "") -> Rung:
    return Rung(access, parse(attack), eot, evasion)


PRESETS = {
    # Minutes on two cores: shows where a defense gives way, not that it holds.
    "quick": Preset(
        (
            _rung("oblivious", "apgd:steps=20"),
            _rung("transfer", "apgd:steps=20"),
            _rung("bpda", "apgd:steps=10", eot=2),
            _rung("full", "apgd:steps=10", eot=2),
            _rung("gate", "apgd:steps=10", eot=2, evasion="orthogonal"),
            _rung("gate", "apgd:steps=10", eot=2, evasion="joint:1"),
            _rung("query", "square:queries=50"),
        ),
        limit=64,
    ),
    # An hour or more on two cores for a system whose purifier is a network, minutes on a GPU: as many noise draws in
    # each gradient as a published row has, fewer steps and images.
    "standard": Preset(
        (
            _rung("oblivious", "apgd"),
            _rung("transfer", "apgd"),
            _rung("bpda", "apgd:steps=20", eot=16),
            _rung("full", "apgd:steps=20", eot=16),
            _rung("gate", "apgd:steps=20", eot=16, evasion="orthogonal"),
            _rung("gate", "apgd:steps=20", eot=16, evasion="joint:1"),
            _rung("query", "square:queries=500"),
        ),
        limit=64,
    ),
    # What a published row asks for: at least 100 steps, at least 16 noise draws in each gradient.
    "full": Preset(
        (
            _rung("oblivious", "autoattack"),
            _rung("transfer", "apgd"),
            _rung("bpda", "apgd", eot=16),
            _rung("full", "apgd", eot=16),
            _rung("gate", "apgd", eot=16, evasion="orthogonal"),
            _rung("gate", "apgd", eot=16, evasion="joint:0.1"),
            _rung("gate", "apgd", eot=16, evasion="joint:1"),
            _rung("gate", "apgd", eot=16, evasion="joint:10"),
            _rung("query", "square"),
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


def with_attack(rungs: tuple[Rung, ...], attack: PartRef, needs_gradient: bool) -> tuple[Rung, ...]:
    """The rungs with another attack in place of their own, wherever it can work."""
    return tuple(
        replace(rung, attack=attack) if rung.access != "query" or not needs_gradient else rung for rung in rungs
    )


#: Why an undefended classifier has no rungs above the first.
BARE = "nothing besides the classifier is deployed: `oblivious` already sees the whole system"


def impossible(
    rung: Rung, norms: tuple[str, ...], needs: str, threat: ThreatModel, resolved: ResolvedDefense
) -> str | None:
    """Why this attack cannot be run from this rung, if it cannot."""
    if threat.norm not in norms:
        return f"attack {rung.attack.name!r} is not defined for {threat.norm}; it knows {', '.join(norms)}"
    if rung.access == "query" and needs == "gradient":
        return f"attack {rung.attack.name!r} needs gradients and `query` gives none; use square or hopskipjump"
    bare = resolved.detector is None and resolved.purifier is None
    if bare and rung.access in ("bpda", "full", "gate"):
        return BARE
    if rung.access in ("full", "gate") and resolved.purifier is not None and not resolved.purifier.differentiable:
        return f"purifier {resolved.purifier.spec_name!r} has no gradient, so there is no exact one; use bpda"
    if rung.access == "gate" and resolved.detector is None:
        return "there is no detector to keep quiet: `full` already sees the whole system"
    return None
