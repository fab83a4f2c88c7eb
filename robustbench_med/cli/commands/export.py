"""``rbmed export``: records for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import Results, format_of
from robustbench_med.errors import BadParameter
from robustbench_med.files.atomic import check_file
from robustbench_med.interfaces.plural import plural

Form = Literal["csv", "parquet", "json"]
#: Formats by the ending of a file.
ENDINGS: dict[str, Form] = {".csv": "csv", ".parquet": "parquet", ".json": "json"}


@app.command(rich_help_panel=RESULTS)
def export(
    results: Results,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format", case_sensitive=False, help="csv, parquet or json. [as the ending of the file says, else csv]"
        ),
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", help="File to write. [standard output]")] = None,
) -> None:
    """Write one row per cell as CSV or Parquet, or the complete records as JSON."""
    from robustbench_med.records.export import kept_as, parts, write
    from robustbench_med.records.folder import kept

    if target is not None:
        check_file(target)
    form = format_of(form, target, ENDINGS, "csv")
    found: dict[str, Any] = {}
    for each in results:
        found |= kept(each, kept_as(form))
    records = list(found.values())
    if target is not None:
        write(records, form, target)
        plain(f"{plural(len(records), 'cell')} in {target}")
    elif form == "parquet":
        raise BadParameter("--format parquet is binary; name a file for it: --out FILE")
    else:
        sys.stdout.writelines(parts(records, form))
