"""Records and outcomes of made-up cells, as small as the leaderboard takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robustbench_med.grid.ladder import PRESETS, REVISION
from robustbench_med.interfaces.rate import Rate, wilson
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record, append
from robustbench_med.records.sections.attack import AttackSection

RUNGS = tuple(rung.name for rung in PRESETS["quick"].rungs if rung.access in ("oblivious", "transfer", "query"))
LEFT_OUT = ("insider", "boundary", "bpda", "full", "gate")


def ladder_record(
    cell: str = "0",
    safe: list[bool] | None = None,
    name: str = "f",
    seed: int = 0,
    created: str = "2026-01-01T00:00",
    **fields: Any,
) -> Record:
    """A ladder after which the images ``safe`` are robust; all images are classified correctly when clean."""
    safe = [True, False] * 4 if safe is None else safe
    n, left = len(safe), sum(safe)
    share = left / n
    shares = {"clean_accuracy": Rate(n, n), "robust_accuracy": Rate(left, n), "hidden_lesion_rate": Rate(n - left, n)}
    steps: list[dict[str, Any]] = [
        {
            "rung": rung,
            "access": rung.partition(" ")[0],
            "attacked": n,
            "withstanding": share,
            "broken": n - left,
            "gradients_mean": 20.0,
            "gradients_max": 20,
            "queries_mean": 100.0,
            "rounds": [{"gradients": 20.0, "withstanding": share}],
            "seconds": 1.0,
            "reason": "",
        }
        for rung in RUNGS
    ]
    steps += [{"rung": rung, "access": rung, "reason": "a bare classifier has none"} for rung in LEFT_OUT]
    values: dict[str, Any] = {
        "cell_id": cell,
        "status": "ok",
        "role": "cell",
        "dataset": {"name": "d", "synthetic": True, "params_passed": {}, "digest": "abc", "licence": "CC0"},
        "defense": {
            "name": name,
            "params_passed": {},
            "strategy": {"name": "fedavg", "params_passed": {}},
            "parts": {"model": {"name": "resnet"}},
            "weights": {"digest": f"w{name}{seed}", "seed": seed},
        },
        "attack": {"name": "ladder", "params_passed": {"preset": "quick"}, "revision": REVISION},
        "threat": {"norm": "linf", "eps": 4 / 255, "access": "ladder", "goal": "untargeted"},
        "eot": 1,
        "draws": 1,
        "seed": 0,
        "limit": None,
        "clients": ["a", "b"],
        "n": n,
        "created": created,
        "metrics": {key: rate.hits / rate.n for key, rate in shares.items()},
        "intervals": {key: wilson(rate) for key, rate in shares.items()},
        "per_client": {
            "a": {"clean_accuracy": 1.0, "robust_accuracy": share},
            "b": {"clean_accuracy": 1.0, "robust_accuracy": share / 2},
        },
        "worst_client": "b",
        "seconds": 2.0,
        "spent": {"gradients_mean": 40.0, "queries_mean": 95.0},
        "rungs": steps,
        "diagnostics": {"level": "cheap", "flags": []},
    }
    return Record.model_validate(values | fields)


def plain(cell: str, safe: list[bool], access: str = "oblivious", attack: str = "apgd", **fields: Any) -> Record:
    """A single attack from one rung."""
    ladder = ladder_record(cell, safe, **fields)
    return ladder.model_copy(
        update={
            "attack": AttackSection(name=attack, params_passed={}),
            "threat": ladder.threat.model_copy(update={"access": access}),
            "rungs": [],
        }
    )


def outcome(cell: str, safe: list[bool], start: int = 0) -> ImageResults:
    """The outcome of `ladder_record`."""
    labels = np.zeros(len(safe), dtype=np.int8)
    attacked = np.array([[0 if each else 1 for each in safe]], dtype=np.int8)
    return ImageResults(cell, tuple(range(start, start + len(safe))), labels, labels[None], attacked)


def record(**fields: object) -> Record:
    """The smallest record, with these fields."""
    values: dict[str, object] = {
        "cell_id": "0",
        "status": "ok",
        "role": "cell",
        "dataset": {"name": "d", "synthetic": True, "params_passed": {}},
        "defense": {"name": "f", "params_passed": {"fpr": 0.1}},
        "attack": {"name": "a", "params_passed": {}},
        "threat": {"norm": "linf", "eps": 0.1, "access": "oblivious"},
        "eot": 1,
        "draws": 1,
        "seed": 0,
        "limit": None,
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Record.model_validate(values | fields)


def many(path: Path, who: str, count: int) -> None:
    """Append records whose ids begin with ``who``."""
    for n in range(count):
        append(path, record(cell_id=f"{who}{n}", reason="x" * 5000))
