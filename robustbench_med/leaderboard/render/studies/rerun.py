"""How rows of a study are measured again: lines to copy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from robustbench_med.errors import BadConfig
from robustbench_med.leaderboard.ranking import pool
from robustbench_med.records.record import Record
from robustbench_med.records.rerun import request, written

#: Options that ``rbmed run`` takes several times, each with the others.
SEVERAL = ("attack", "eps", "defense")


def again(records: Sequence[Record]) -> list[str]:
    """Commands that measure records again: one for those that differ in an option that may be given several times.

    A record that does not hold the options of its run says so.
    """
    left: list[dict[str, Any]] = []
    told: dict[str, None] = {}
    for record in records:
        try:
            options = request(record)
        except BadConfig as error:
            told[f"# {error}"] = None
            continue
        options |= {} if record.dataset.synthetic else {"data_root": "FOLDER"}
        if options not in left:
            left.append(options)
    return [*_commands(left), *told]


def _commands(left: list[dict[str, Any]]) -> Iterator[str]:
    while left:
        name, alike = max(((name, _alike(left, name)) for name in SEVERAL), key=lambda each: len(each[1]))
        yield written({**left[0], name: [each[name] for each in alike if name in each]}, "results/again")
        left = [each for each in left if each not in alike]


def _alike(options: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those that differ from the first in this option at most."""
    first = {**options[0], name: None}
    return [each for each in options if {**each, name: None} == first]


def measured_with(records: Sequence[Record]) -> list[str]:
    """The commands that records were measured with, without where the results went."""
    found = dict.fromkeys(record.provenance.command or "" for record in pool.cells(records))
    return list(dict.fromkeys(re.sub(r" --out \S+", "", text) for text in found if text))


def cells(records: Sequence[Record]) -> str:
    """Ids of cells, those of each fold of a pool, for CSV."""
    return " ".join(record.cell_id for record in pool.cells(records))
