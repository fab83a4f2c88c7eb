"""``rbmed table``: show the records of earlier runs."""

from __future__ import annotations

from typing import Annotated

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import PluginFiles, Results, registry


@app.command(rich_help_panel=RESULTS)
def table(
    records: Results,
    report: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print them as this report: markdown, csv, seeds, ...")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Show the records of earlier runs; of a cell that was measured several times, the latest."""
    from robustbench_med.cli.tables.summary import show
    from robustbench_med.plugins.components import create
    from robustbench_med.records.folder import is_large, open_results
    from robustbench_med.records.lean import lean
    from robustbench_med.records.record import latest
    from robustbench_med.records.table import to_frame

    renderer = create(registry(plugin), "report", report) if report else None
    large = any(map(is_large, records))
    found = latest(record for each in records for record in (open_results(each, lean) if large else open_results(each)))
    if renderer is not None:
        found.reverse()
        plain(renderer.render(to_frame(found.pop() for _ in range(len(found)))))  # the memory of each is free then
    else:
        show(found, (records[0] if records[0].is_dir() else records[0].parent) / "samples")
