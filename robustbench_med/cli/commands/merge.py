"""``rbmed merge``: several folders of results into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.console import plain


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results.")],
    target: Annotated[Path, typer.Option("--out", help="A new folder for all of them.")],
) -> None:
    """Put the records and samples of several folders into a new one; two results of one cell are refused."""
    from robustbench_med.records.folder import merge as merged

    records = merged(folders, target)
    plain(f"{len(records)} cells of {len(folders)} folders in {target}")
