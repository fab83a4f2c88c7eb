"""``rbmed report``: results as one readable file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.commands.gallery import draw_rows
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import DataRoot, PluginFiles, RecordDevice, Results, format_of, registry
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.errors import BadParameter
from robustbench_med.files.atomic import check_file

Form = Literal["html", "md", "pdf"]
#: Formats by the ending of a file.
ENDINGS: dict[str, Form] = {".html": "html", ".htm": "html", ".md": "md", ".pdf": "pdf"}


@app.command(rich_help_panel=RESULTS)
def report(
    results: Results,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            case_sensitive=False,
            help="html, md or pdf (with Chromium). [as the ending of the file says, else html]",
        ),
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", help="File to write. [next to the records]")] = None,
    images: Annotated[
        int, typer.Option(min=0, max=20, help="Attack and show this many images of each row, also of your data.")
    ] = 0,
    device: RecordDevice = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Write a report of results: tables, charts, images, provenance, in one file."""
    from robustbench_med.leaderboard.render.page.report import read, write
    from robustbench_med.leaderboard.sources.names import refreshed

    if target is not None:
        check_file(target)
    form = format_of(form, target, ENDINGS, "html")
    if target is None:
        target = (results[0] if results[0].is_dir() else results[0].parent) / f"report.{form}"
    check_file(target)
    if images and form == "md":
        raise BadParameter("--images cannot be used with --format md, which has no images; use html or pdf")
    found = registry(plugin)
    made = read(results, lambda records: refreshed({}, lambda kind, name: found.find(kind, name).spec, records))
    if not images:
        write(made, form, target)
    else:
        from robustbench_med.reproduction.verify import Verifier

        verifier = Verifier(found, device, data_root, RichProgress())
        with tempfile.TemporaryDirectory() as folder:
            entries = (entry for board in made.boards for entry in board.entries)
            measured = [entry for entry in entries if entry.records[0].status == "ok"]
            list(draw_rows(verifier, measured, Path(folder), images, patients=True))
            write(made, form, target, Path(folder))
    plain(str(target))
