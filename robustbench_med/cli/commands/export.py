"""``rbmed export``: records for other programs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.console import plain
from robustbench_med.errors import BadParameter


class Format(StrEnum):
    """What is written: one row per cell (csv, parquet), or the records whole (json)."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


def export(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, or files of records.")],
    form: Annotated[Format, typer.Option("--format", help="csv, parquet or json.")] = Format.CSV,
    target: Annotated[Path | None, typer.Option("--out", help="File to write. [standard output]")] = None,
) -> None:
    """Write one row per cell as CSV or Parquet, or the records whole as JSON."""
    from robustbench_med.records.export import exported, write
    from robustbench_med.records.folder import open_results
    from robustbench_med.records.record import latest

    records = latest(record for each in results for record in open_results(each))
    if target is not None:
        write(records, form.value, target)
        plain(f"{len(records)} cells in {target}")
    elif form is Format.PARQUET:
        raise BadParameter("Parquet is no text; name a file: --out FILE")
    else:
        sys.stdout.write(exported(records, form.value))
