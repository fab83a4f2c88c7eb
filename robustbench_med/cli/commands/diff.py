"""``rbmed diff``: compare two folders of results cell by cell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import emit_json, notes, out, plain


@app.command(rich_help_panel=RESULTS)
def diff(
    left: Annotated[Path, typer.Argument(help="Folder of results, or a file of records.")],
    right: Annotated[Path, typer.Argument(help="Folder or file to compare it with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all cells and differences as JSON.")] = False,
) -> None:
    """Compare two folders of results cell by cell; exit code 1 where they differ.

    same: all values are equal; within: all rates are inside each other's 95 % intervals; differs: one is not; only: the
    cell is in one of the two. Times, memory and provenance are not compared.
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
                notes(pair.notes)
        out.print(", ".join(f"{count} {match}" for match, count in sorted(counts.items())))
    if set(counts) != {"same"}:
        raise typer.Exit(1)
