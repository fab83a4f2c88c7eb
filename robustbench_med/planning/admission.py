"""Which attacks can be run from which rung against which defense, and why not."""

from __future__ import annotations

from robustbench_med.defenses.blueprint import Blueprint
from robustbench_med.planning.ladder import Rung
from robustbench_med.threat import ThreatModel

#: Why an undefended classifier has no rungs above the first.
BARE = "nothing besides the classifier is deployed: `oblivious` already sees the whole system"


def impossible(rung: Rung, norms: tuple[str, ...], needs: str, threat: ThreatModel, blueprint: Blueprint) -> str | None:
    """Why this attack cannot be run from this rung, if it cannot."""
    if threat.norm not in norms:
        return f"attack {rung.attack.name!r} is not defined for {threat.norm}; it knows {', '.join(norms)}"
    if rung.access == "query" and needs == "gradient":
        return f"attack {rung.attack.name!r} needs gradients and `query` gives none; use square or hopskipjump"
    bare = blueprint.detector is None and blueprint.purifier is None
    if bare and rung.access in ("bpda", "full", "gate"):
        return BARE
    if rung.access in ("full", "gate") and blueprint.purifier is not None and not blueprint.purifier.differentiable:
        return f"purifier {blueprint.purifier.spec_name!r} has no gradient, so there is no exact one; use bpda"
    if rung.access == "gate" and blueprint.detector is None:
        return "there is no detector to keep quiet: `full` already sees the whole system"
    return None
