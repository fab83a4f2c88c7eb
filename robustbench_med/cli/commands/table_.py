"""``rbmed table``: records that are on disk, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.commands.plugins import PluginFiles, registry
from robustbench_med.cli.console import plain


def table(
    records: Annotated[list[Path], typer.Argument(help="Folders of results, or files of records.")],
    report: Annotated[str | None, typer.Option(help="As this report: markdown, csv, seeds, ...")] = None,
    plugin: PluginFiles = None,
) -> None:
    """Show records again; a cell that was measured more than once counts as it was measured last."""
    from robustbench_med.cli.tables.summary import show
    from robustbench_med.plugins.components import create
    from robustbench_med.records.folder import open_results
    from robustbench_med.records.record import latest
    from robustbench_med.records.table import to_frame

    form = create(registry(plugin), "report", report) if report else None
    found = latest(record for each in records for record in open_results(each))
    if form is not None:
        plain(form.render(to_frame(found)))
    else:
        show(found, (records[0] if records[0].is_dir() else records[0].parent) / "samples")
