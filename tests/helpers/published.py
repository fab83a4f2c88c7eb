"""Published records of several kinds, and what the audit says of them after an edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from helpers.forgery import Edit, Facts
from helpers.paths import ROOT
from robustbench_med.files.jsonl import content, file_of
from robustbench_med.interfaces.metric import Metric
from robustbench_med.leaderboard.sources import image_results
from robustbench_med.leaderboard.sources.test_split import read_all
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import parse
from robustbench_med.reproduction.audit import faults, metrics_of

BOARD = ROOT / "leaderboard"
#: Folder, file, and how to tell the record that is edited.
REAL: dict[str, tuple[str, str, Callable[[Facts], Any]]] = {
    "bare": ("", "leaderboard-brainsim2", lambda record: record["defense"]["name"] == "undefended"),
    "guarded": ("", "leaderboard-brainsim-standard", lambda record: "detector" in record["defense"]["parts"]),
    "falling": ("", "leaderboard-lgg-folds", lambda record: "still-falling" in record["diagnostics"]["flags"]),
    "noise": ("", "leaderboard-lgg-folds", lambda record: "noise-hurts" in record["diagnostics"]["flags"]),
    "blind": ("corruptions", "acquisition-brainsim", lambda record: "blind-detector" in record["diagnostics"]["flags"]),
    "certified": ("certified", "brainsim", lambda record: record["certified"] and record["threat"]["eps"] == 0.5),
    "no patients": ("", "leaderboard-busi-folds", lambda record: True),
    "single": ("attacks", "attacks", lambda record: record["attack"]["name"] == "apgd"),
}


@cache
def _known() -> tuple[Any, list[Metric]]:
    return read_all(BOARD / "splits"), metrics_of(Registry())


@cache
def lines(kind: str) -> tuple[bytes, bytes]:
    """The record and its per-image results."""
    folder, name, wanted = REAL[kind]
    records, outcomes = (
        content(file_of(BOARD / folder / each, name, compressed=False)).splitlines() for each in ("records", "outcomes")
    )
    record = next(line for line in records if wanted(json.loads(line)))
    cell = json.loads(record)["cell_id"]
    return record, next(line for line in outcomes if json.loads(line)["cell_id"] == cell)


def told(kind: str, edit: Edit) -> list[str]:
    """What the audit says of the record after an edit."""
    record, images = map(json.loads, lines(kind))
    edit(record, images)
    made, (splits, metrics) = parse(json.dumps(record)), _known()
    return list(
        faults(made, image_results.parse(json.dumps(images)), splits[str(made.dataset.digest)], metrics, older=False)
    )
