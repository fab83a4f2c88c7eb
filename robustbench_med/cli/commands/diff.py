"""``rbmed diff``: two folders of results, cell by cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.console import emit_json, out, plain

#: As much of a difference as fits; --json has all.
SHOWN = 8


def diff(
    left: Annotated[Path, typer.Argument(help="Folder of results, or a file of records.")],
    right: Annotated[Path, typer.Argument(help="Another.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all cells and differences as JSON.")] = False,
) -> None:
    """Compare two folders of results cell by cell; exit code 1 where they differ.

    same: every figure; within: every share lies within the other's 95 % interval; differs: one does not; only: the cell
    is in one of them. Times, memory and provenance are not compared.
    """
    from robustbench_med.cli.tables.records import name_of
    from robustbench_med.records.compare import pairs
    from robustbench_med.records.folder import open_results

    found = pairs(open_results(left), open_results(right))
    counts = Counter(pair.match for pair in found)
    if as_json:
        emit_json(
            [
                {
                    "match": pair.match,
                    "left": pair.left and pair.left.cell_id,
                    "right": pair.right and pair.right.cell_id,
                    "cell": name_of(pair.record),
                    "notes": pair.notes,
                }
                for pair in found
            ]
        )
    else:
        for pair in found:
            if pair.match != "same" or pair.notes:
                plain(f"{pair.match:<10} {pair.record.cell_id}  {name_of(pair.record)}")
                for note in pair.notes[:SHOWN]:
                    plain(f"           {note}")
                if len(pair.notes) > SHOWN:
                    plain(f"           and {len(pair.notes) - SHOWN} more differences (--json shows all)")
        out.print(", ".join(f"{count} {match}" for match, count in sorted(counts.items())))
    if set(counts) != {"same"}:
        raise typer.Exit(1)
