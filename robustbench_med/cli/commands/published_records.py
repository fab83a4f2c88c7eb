"""Files of records of the leaderboard's folder, as ``rbmed leaderboard check`` and ``verify`` take them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from robustbench_med.cli.console import plain
from robustbench_med.interfaces.plural import plural

if TYPE_CHECKING:
    from robustbench_med.leaderboard.sources.folder import Sources
    from robustbench_med.leaderboard.sources.submission import Submission
    from robustbench_med.plugins.registry import Registry


def opened(file: Path) -> Submission:
    """The records of a file, with the per-image results in the folder ``outcomes`` beside its own.

    Raises:
        DataError: a line of either is none.
    """
    from robustbench_med.files import jsonl
    from robustbench_med.leaderboard.entry import Paper
    from robustbench_med.leaderboard.sources.image_results import read
    from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS, read_records
    from robustbench_med.leaderboard.sources.submission import Submission

    records = tuple(read_records(file))
    cells = {record.cell_id for record in records}
    beside = jsonl.files_of(file.parent.parent / OUTCOMES) if file.parent.name == RECORDS else []
    outcomes = {each.cell_id: each for path in beside for each in read(path) if each.cell_id in cells}
    return Submission(jsonl.name_of(file), "", Paper(""), "", records, outcomes)


def check_records(file: Path, own: Submission, sources: Sources, plugins: Registry, data_root: Path | None) -> None:
    """Print what speaks against records measured here: all that a submission is asked, but for a ladder and a rank.

    Raises:
        DataError: images do not give the figures of their record.
        Exit: 1 if anything does.
    """
    from robustbench_med.cli.commands.submit import show
    from robustbench_med.leaderboard.sources.consistency import check as checked
    from robustbench_med.leaderboard.sources.submission import Review
    from robustbench_med.records.contradictions import contradictions
    from robustbench_med.reproduction.plausibility import objections

    measured = [record for record in own.records if record.status == "ok"]
    refused = [f"cell {record.cell_id}: {fault}" for record in measured for fault in contradictions(record)]
    for record in measured:
        if record.cell_id in own.outcomes:
            checked(record, own.outcomes[record.cell_id], file)
    refused += objections(own, sources.splits, plugins, data_root)
    without = sum(record.cell_id not in own.outcomes for record in measured)
    notes = (
        [f"{plural(without, 'cell has', 'cells have')} no per-image results, from which figures could be checked"]
        if without
        else []
    )
    show(Review(tuple(refused), tuple(notes)))
    if refused:
        raise typer.Exit(1)
    cells = plural(len(own.records), "cell is what its", "cells are what their")
    plain(f"{file}: {cells} options plan, and the figures add up")
