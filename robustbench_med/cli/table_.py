"""``rbmed table``: records that are on disk, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.plugins import PluginFiles, registry
from robustbench_med.cli.style import plain


def table(
    records: Annotated[list[Path], typer.Argument(help="Folders of results, or files of records.")],
    report: Annotated[str | None, typer.Option(help="As this report: markdown, csv, seeds, ...")] = None,
    plugin: PluginFiles = None,
) -> None:
    """Show records again; a cell that was measured more than once counts as it was measured last."""
    from robustbench_med.cli.page import show
    from robustbench_med.components import create
    from robustbench_med.recording.records import latest
    from robustbench_med.recording.results import open_results
    from robustbench_med.recording.table import to_frame

    form = create(registry(plugin), "report", report) if report else None
    found = latest(record for each in records for record in open_results(each))
    if form is not None:
        plain(form.render(to_frame(found)))
    else:
        show(found, (records[0] if records[0].is_dir() else records[0].parent) / "samples")
