"""The access ladder: which attack runs from which rung, cheapest first.

The robustness of a defense is that of the worst rung, image by image (Tramer et al. 2020, arXiv:2002.08347).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robustbench_med.attacks.rung import RungRef
from robustbench_med.errors import UsageError
from robustbench_med.plugins.references import parse

if TYPE_CHECKING:
    from robustbench_med.attacks.rung import Rung
    from robustbench_med.defenses.resolved import ResolvedDefense
    from robustbench_med.interfaces.threat import ThreatModel

#: Bumped whenever a preset changes, since its numbers would.
REVISION = 1


@dataclass(frozen=True)
class Preset:
    """A ladder by name, and how many images it is meant for (None: all)."""

    rungs: tuple[RungRef, ...] = field(default_factory=tuple)
    limit: int | None = None


def _rung(access: str, attack: str, eot: int = 1, evasion: str = "") -> RungRef:
    return RungRef(access, parse(attack), eot, evasion)


PRESETS = {
    # Minutes on two cores: can show that a defense fails, not that it holds.
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
    # What a published row requires: at least 100 steps, at least 16 noise draws in each gradient.
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


#: Why an undefended classifier has no rungs above the first.
BARE = "nothing besides the classifier is deployed: `oblivious` already sees the whole system"


def inapplicable(rung: Rung, threat: ThreatModel, defense: ResolvedDefense) -> str | None:
    """Why this rung cannot run against a defense under a threat model; None where it can.

    The reasons are in published records, which `rbmed verify` compares word for word: do not reword them.
    """
    attack, access = rung.ref.attack.name, rung.access
    if threat.norm not in rung.norms:
        return f"attack {attack!r} is not defined for {threat.norm}; it knows {', '.join(rung.norms)}"
    if access == "query" and rung.follows_gradient:
        return f"attack {attack!r} needs gradients and `query` gives none; use square or hopskipjump"
    if defense.bare and access in ("bpda", "full", "gate"):
        return BARE
    if access in ("full", "gate") and defense.purifier is not None and not defense.purifier.differentiable:
        return f"purifier {defense.purifier.spec_name!r} has no gradient, so there is no exact one; use bpda"
    if access == "gate" and defense.detector is None:
        return "there is no detector to keep quiet: `full` already sees the whole system"
    return None
