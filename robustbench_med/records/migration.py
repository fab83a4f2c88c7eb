"""Records of older formats, read as if they had been written today.

A step takes what a line holds in one version to the next, in place; lines in files stay as they were written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustbench_med.errors import BadConfig

#: Version of the format that is written.
SCHEMA = 6


def migrated(facts: Any) -> dict[str, Any]:
    """A record's facts in today's format.

    Raises:
        ValueError: they are no record's.
        BadConfig: they were written by a newer robustbench-med: nothing is wrong with them, and they must not be lost.
    """
    if not isinstance(facts, dict):
        raise ValueError("not an object")
    version = facts.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"schema_version: {version!r:.20} is no version")
    if version > SCHEMA:
        if not isinstance(facts.get("cell_id"), str):
            raise ValueError(f"schema_version: {version!r:.20} is no version")
        raise BadConfig(
            f"a record of format {version!r:.20} was written by a newer robustbench-med; this one reads formats up "
            f"to {SCHEMA}, so update it"
        )
    current: dict[str, Any] = dict(facts)
    for step in _STEPS[version - 1 :]:
        step(current)
    current["schema_version"] = SCHEMA
    return current


def _to_2(facts: dict[str, Any]) -> None:
    """Budgets, surrogates, ladders and diagnostics came."""
    for name, empty in (("budget", {}), ("surrogate", None), ("rungs", []), ("diagnostics", {})):
        facts.setdefault(name, empty)


def _to_3(facts: dict[str, Any]) -> None:
    """Unseen sites and figures between clients came."""
    for name, empty in (("unseen", []), ("between_clients", {})):
        facts.setdefault(name, empty)


def _to_4(facts: dict[str, Any]) -> None:
    """`asked` came, in the dataset, the attack and the surrogate; the options of an older record are not known."""


def _to_5(facts: dict[str, Any]) -> None:
    """Patients came: intervals of older records treat images as independent, and their patients are not known."""


def _to_6(facts: dict[str, Any]) -> None:
    """Certificates came."""
    facts.setdefault("certified", None)


_STEPS: tuple[Callable[[dict[str, Any]], None], ...] = (_to_2, _to_3, _to_4, _to_5, _to_6)
