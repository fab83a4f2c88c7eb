"""Small grids of toy parts, and what of their records must not differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import robustbench_med as rbmed
from helpers import trained_toys
from helpers.paths import HELPERS, TOY
from robustbench_med.grid.cell import Cell, cell_of
from robustbench_med.grid.config import build
from robustbench_med.grid.plan import plan
from robustbench_med.plugins.registry import Registry

FILES = [TOY, HELPERS / "faulty_plugin.py"]
#: A defense and the model that it is compared with.
COMPARED: dict[str, Any] = {
    "dataset": "stripes",
    "defense": "guarded",
    "baseline": "bare",
    "attack": "shift",
    "surrogate": "bare",
}
BASE: dict[str, Any] = {
    **COMPARED,
    "baseline": "",
    "eps": "1/10",
    "access": "oblivious",
    "batch_size": 3,
    "draws": 2,
}
#: `BASE` on the command line, without an attack.
COMMAND = [
    *(sys.executable, "-m", "robustbench_med", "-p", str(FILES[0]), "-p", str(FILES[1])),
    *("run", "--dataset", "stripes", "--defense", "guarded", "--baseline", "", "--access", "oblivious"),
    *("--eps", "1/10", "--batch-size", "3", "--draws", "2"),
]
#: What may differ between two runs: time and memory.
VOLATILE = {"created", "seconds", "peak_memory_mib", "trained"}


def trained() -> Registry:
    """The toys, with weights for both defenses, under RBMED_HOME."""
    trained_toys.place()
    return Registry(files=FILES)


def cells(registry: Registry, **options: object) -> list[Cell]:
    """The cells of a grid that compares two defenses, before any weights are there."""
    return [cell_of(each) for each in plan(build({**COMPARED, "access": "oblivious", **options}), registry)]


def run(registry: Registry, out: Path, **options: Any) -> list[rbmed.Record]:
    return rbmed.evaluate(registry=registry, out=out, **{**BASE, **options})


def lines(out: Path) -> list[str]:
    """The records on disk, less what may differ."""
    return [stripped(json.loads(line)) for line in (out / "records.jsonl").read_text().splitlines()]


def stripped(record: Any) -> str:
    def less(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: less(inner) for key, inner in value.items() if key not in VOLATILE}
        return [less(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(less(record), sort_keys=True)
