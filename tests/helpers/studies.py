"""Records of what is shown beside the boards, and the studies that they make."""

from __future__ import annotations

from typing import Any

from helpers import board as boards
from robustbench_med.certification.bounds import largest_radius
from robustbench_med.leaderboard.render.studies.all import studies
from robustbench_med.leaderboard.render.studies.view import Study
from robustbench_med.leaderboard.sources.names import Names
from robustbench_med.leaderboard.sources.studies import ATTACKS, CERTIFIED, CORRUPTIONS, StudySources
from robustbench_med.records.record import Record
from robustbench_med.records.sections.dataset import DatasetSection

#: A smoothed system, as a table names it.
SMOOTHED = "smoothed:sigma=0.25"
#: A name that must stay text.
BAD = "<b>bad</b>"


def measured(cell: str, name: str, left: float, attack: dict[str, Any], threat: dict[str, Any], **more: Any) -> Record:
    """A single attack that leaves a share of 64 images of 48 patients."""
    shares = {"clean_accuracy": 1.0, "robust_accuracy": left, "clean_balanced_accuracy": 1.0}
    facts: dict[str, Any] = {
        "defense": {"name": name, "params_passed": {}, "weights": {"digest": "w", "seed": 0}},
        "attack": {"asked": {"access": "full", "attack": attack["name"]}, **attack},
        "threat": {"access": "full", "goal": "untargeted", **threat},
        "patients": 48,
        "metrics": {**shares, "robust_balanced_accuracy": left},
        "intervals": {"clean_accuracy": [0.9, 1.0], "robust_accuracy": [left * 0.9, left]},
        "provenance": {"command": f"rbmed run {name}.toml --out somewhere"},
    }
    metrics = more.pop("metrics", {})
    intervals = more.pop("intervals", {})
    facts["metrics"] |= metrics
    facts["intervals"] |= intervals
    return boards.record(cell, **facts | more)


def certified(
    cell: str, eps: float, left: float, attack: str = "momentum", name: str = "smoothed", smoothed: bool = True
) -> Record:
    """Half of the images are certified at each radius up to one half."""
    params = {"steps": 15} if attack == "momentum" else {}
    largest = largest_radius(500, 0.001, 0.25)
    how = {"sigma": 0.25, "n0": 50, "n": 500, "alpha": 0.001, "largest": largest, "median": largest, "abstained": 1}
    radii = [largest * step / 12 for step in range(13)]
    shares = [round(64 * (1 - at)) / 64 for at in radii]
    curve = [
        {"radius": at, "accuracy": each, "low": each * 0.9, "high": each}
        for at, each in zip(radii, shares, strict=True)
    ]
    more: dict[str, Any] = {
        "certified": how | {"chance": 0.128, "curve": curve},
        "metrics": {"certified_accuracy": 0.5 if eps == 0.5 else 1 - eps},
        "intervals": {"certified_accuracy": [0.4, 0.6] if eps == 0.5 else [0.9 - eps, 1 - eps]},
    }
    passed = {"sigma": 0.25} if smoothed else {}
    weights = {"digest": "w", "seed": 0}
    parts = {"purifier": {"name": "smoothed", "params": {"sigma": 0.25}, "revision": 1}} if smoothed else {}
    return measured(
        cell,
        name,
        left,
        {"name": attack, "params_passed": params},
        {"norm": "l2", "eps": eps},
        defense={"name": name, "params_passed": passed, "weights": weights, "parts": parts},
        **(more if smoothed else {}),
    )


def in_folds(*lefts: float, of: int, synthetic: bool = False) -> list[Record]:
    """A smoothed system on folds of one data set, each with weights of its own."""
    found = []
    for number, left in enumerate(lefts):
        record = certified(f"fold{number}", 0.5, left)
        facts = record.dataset.model_dump() | {
            "name": "d",
            "synthetic": synthetic,
            "params_passed": {"folds": of, "fold": number},
            "digest": f"images-{number}",
            "fold": {"number": number, "of": of, "pool": "all"},
            "asked": {"dataset": f"d:folds={of},fold={number}"},
        }
        weights = record.defense.weights.model_copy(update={"digest": f"w{number}"})
        defense = record.defense.model_copy(update={"weights": weights})
        found.append(record.model_copy(update={"dataset": DatasetSection.model_validate(facts), "defense": defense}))
    return found


def acquisition(cell: str, physics: str, steps: int, restarts: int, left: float, name: str = "undefended") -> Record:
    """Artefacts within the whole limits."""
    params = {"physics": physics, "steps": steps, "restarts": restarts}
    return measured(
        cell, name, left, {"name": "acquisition", "params_passed": params}, {"norm": "acquisition", "eps": 1.0}
    )


def corruption(cell: str, kind: str, severity: int, left: float, name: str = "undefended") -> Record:
    """One corruption at one severity."""
    params = {"name": kind, "severity": severity}
    attack = {"name": "corruption", "params_passed": params}
    return measured(cell, name, left, attack, {"norm": "corruption", "eps": float(severity)})


def compared(cell: str, attack: str, left: float, name: str) -> Record:
    """One attack with a budget."""
    threat = {"norm": "linf", "eps": 4 / 255}
    return measured(cell, name, left, {"name": attack, "params_passed": {}}, threat, budget={"gradients": 50})


def studies_of(name: str = "undefended", names: Names | None = None) -> list[Study]:
    """One of everything; ``name`` is that of a system, ``names`` are those of components for people."""
    bounds = [certified("a", 0.5, 0.75), certified("b", 0.5, 1.0, attack="noise")]
    bounds.append(certified("c", 0.5, 0.2, name=name, smoothed=False))
    scans = [acquisition("a", "all", 20, 4, 0.375, name), acquisition("b", "all", 0, 1, 0.96875, name)]
    scans += [corruption(f"c{severity}", "jpeg", severity, 1 - severity / 10, name) for severity in range(1, 6)]
    attacks = [
        compared(f"{attack}{at}", attack, left, system)
        for attack, left in (("apgd", 0.25), ("fgsm", 0.5), ("noise", 1.0))
        for at, system in enumerate((name, "other"))
    ]
    made = {CERTIFIED: bounds, CORRUPTIONS: scans, ATTACKS: attacks}
    return studies({key: StudySources(tuple(records)) for key, records in made.items()}, names)
