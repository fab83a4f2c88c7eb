"""``rbmed export``: records for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import Results
from robustbench_med.errors import BadParameter


@app.command(rich_help_panel=RESULTS)
def export(
    results: Results,
    form: Annotated[
        Literal["csv", "parquet", "json"],
        typer.Option("--format", case_sensitive=False, help="csv, parquet or json."),
    ] = "csv",
    target: Annotated[Path | None, typer.Option("--out", help="File to write. [standard output]")] = None,
) -> None:
    """Write one row per cell as CSV or Parquet, or the complete records as JSON."""
    from robustbench_med.records.export import exported, write
    from robustbench_med.records.folder import is_large, open_results
    from robustbench_med.records.lean import lean
    from robustbench_med.records.record import latest

    whole = form == "json" or not any(map(is_large, results))
    records = latest(
        record for each in results for record in (open_results(each) if whole else open_results(each, lean))
    )
    if target is not None:
        write(records, form, target)
        plain(f"{len(records)} cells in {target}")
    elif form == "parquet":
        raise BadParameter("--format parquet is binary; name a file for it: --out FILE")
    else:
        sys.stdout.write(exported(records, form))
