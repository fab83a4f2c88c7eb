"""``rbmed report``: results as one file for people."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.style import plain
from robustbench_med.errors import BadParameter


class Form(StrEnum):
    """What is written."""

    HTML = "html"
    MD = "md"
    PDF = "pdf"


def report(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, or files of records.")],
    form: Annotated[Form, typer.Option("--format", help="html, md or pdf (with Chromium).")] = Form.HTML,
    target: Annotated[Path | None, typer.Option("--out", help="File to write. [beside the records]")] = None,
) -> None:
    """Write a report of results: tables, charts, provenance, in one file."""
    from robustbench_med.leaderboard.page.report import read, write

    if target is None:
        target = (results[0] if results[0].is_dir() else results[0].parent) / f"report.{form.value}"
    if target.is_dir():
        raise BadParameter(f"--out {target} is a folder; name a file")
    write(read(results), form.value, target)
    plain(str(target))
