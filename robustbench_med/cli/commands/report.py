"""``rbmed report``: results as one file for people."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.commands.gallery import drawing
from robustbench_med.cli.commands.plugins import PluginFiles, registry
from robustbench_med.cli.console import plain
from robustbench_med.cli.progress.bars import RichProgress
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
    images: Annotated[
        int, typer.Option(min=0, max=20, help="Attack and show this many images of each row, yours included.")
    ] = 0,
    device: Annotated[
        str | None, typer.Option(help="Of --images: auto, cpu, cuda or cuda:i. [the record's, or cpu]")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Of --images: folder of your images (or RBMED_DATA).")] = None,
    plugin: PluginFiles = None,
) -> None:
    """Write a report of results: tables, charts, images, provenance, in one file."""
    from robustbench_med.leaderboard.render.page.report import read, write

    if target is None:
        target = (results[0] if results[0].is_dir() else results[0].parent) / f"report.{form.value}"
    if target.is_dir():
        raise BadParameter(f"--out {target} is a folder; name a file")
    if images and form is Form.MD:
        raise BadParameter("--images: Markdown holds no images; --format html or pdf does")
    made = read(results)
    if not images:
        write(made, form.value, target)
    else:
        from robustbench_med.reproduction.verify import Verifier

        verifier = Verifier(registry(plugin), device, data_root, RichProgress())
        with tempfile.TemporaryDirectory() as folder:
            entries = [entry for board in made.boards for entry in board.entries if entry.records[0].status == "ok"]
            list(drawing(verifier, entries, Path(folder), images, patients=True))
            write(made, form.value, target, Path(folder))
    plain(str(target))
