"""``rbmed merge``: combine several folders of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import plain
from robustbench_med.interfaces.plural import plural


@app.command(rich_help_panel=RESULTS)
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results.")],
    target: Annotated[Path, typer.Option("--out", help="A new folder.")],
) -> None:
    """Copy the records and samples of several folders into a new one; it is an error if two hold the same cell."""
    from robustbench_med.records.folder import merge as merged

    records = merged(folders, target)
    plain(f"{plural(len(records), 'cell')} of {plural(len(folders), 'folder')} in {target}")
