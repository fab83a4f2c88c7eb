"""``rbmed table``: show the records of earlier runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import PluginFiles, Results, registry

#: Rows of a report from which on it is written without a console.
MANY = 2000


@app.command(rich_help_panel=RESULTS)
def table(
    records: Results,
    report: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print them as this report: markdown, csv, seeds, ...")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Show the records of earlier runs; of a cell that was measured several times, the latest."""
    from robustbench_med.plugins.components import create

    renderer = create(registry(plugin), "report", report) if report else None
    if renderer is None:
        _show(records)
        return
    from robustbench_med.records.folder import kept, open_results
    from robustbench_med.records.table import frame_of, row

    found: dict[str, tuple[dict[str, Any], bool]] = {}
    for each in records:
        found |= kept(each, lambda record: (row(record), record.dataset.fold is not None))
    many, folds = len(found) > MANY, any(folded for _, folded in found.values())
    if folds and renderer.pools_folds:
        from robustbench_med.cli.tables.reports import pooled_frame

        frame = pooled_frame({each: open_results(each) for each in records})
    else:
        frame = frame_of([found.pop(cell)[0] for cell in list(found)])  # the memory of each is free then
    text = renderer.render(frame)
    if many:  # a console would keep several copies of it
        sys.stdout.write(f"{text}\n")
    else:
        plain(text)


def _show(records: list[Path]) -> None:
    from robustbench_med.cli.tables.summary import show
    from robustbench_med.records.folder import is_large, open_results, samples_of
    from robustbench_med.records.record import latest
    from robustbench_med.records.reduced import lean

    large = any(map(is_large, records))
    found = latest(record for each in records for record in (open_results(each, lean) if large else open_results(each)))
    show(found, samples_of(records[0]))
