"""``rbmed run``: attack defenses and print a row for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_med.cli import early_checks
from robustbench_med.cli.app import EVALUATION, app
from robustbench_med.cli.completion import component
from robustbench_med.cli.console import err, out, plain
from robustbench_med.cli.options import Config, PluginFiles, Quiet, registry, takes
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.cli.progress.events import Events
from robustbench_med.cli.resuming import resumable
from robustbench_med.cli.tracebacks import show_plugin_traceback
from robustbench_med.files.atomic import check_writable
from robustbench_med.grid.options import OUTPUT
from robustbench_med.progress import Progress, Silent

if TYPE_CHECKING:
    from robustbench_med.grid.config import RunConfig
    from robustbench_med.plugins.registry import Registry
    from robustbench_med.records.record import Record

ReportName = Annotated[
    str | None,
    typer.Option(
        autocompletion=component("report"),
        metavar="NAME",
        rich_help_panel=OUTPUT,
        help="Print the records as this report: markdown, csv, ...",
    ),
]
AsEvents = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print events and records, one JSON object per line.")
]


@app.command(rich_help_panel=EVALUATION)
@takes()
def run(
    options: dict[str, Any],
    config: Config = None,
    report: ReportName = None,
    as_json: AsEvents = False,
    quiet: Quiet = False,
    plugin: PluginFiles = None,
) -> None:
    """Attack defenses and print a row for each. Options marked with ... may be repeated: their values make a grid."""
    from robustbench_med.grid.config import build

    known = registry(plugin)
    measure(build(options, config), known, report, as_json, quiet)


def measure(settings: RunConfig, known: Registry, report: str | None, as_json: bool, quiet: bool) -> None:
    """Measure the cells of a configuration and print them; exit with 1 if a cell failed or a certificate is refuted."""
    early_checks.check(settings, known, {"report": report})
    check_writable(settings.out)
    from robustbench_med.plugins.components import create
    from robustbench_med.runner.runner import Runner

    renderer = create(known, "report", report) if report else None
    # Events and a live view on one screen would overwrite each other.
    silent = quiet or (as_json and (out.is_terminal or not err.is_terminal))
    view: Progress = Silent() if silent else RichProgress()
    events = Events(view) if as_json else None
    records: list[Record] = []
    with resumable(lambda: _kept(records, settings.out)):
        runner = Runner(settings, known, events or view)
        for record in runner.run():
            records.append(record)
            if events:
                events.record(record)
    from robustbench_med.cli.tables.certificates import contradicted
    from robustbench_med.cli.tables.records import name_of, nothing_measured
    from robustbench_med.cli.tables.summary import show

    if renderer is not None:
        from robustbench_med.cli.tables.reports import pooled_frame
        from robustbench_med.records.table import to_frame

        frame = pooled_frame({settings.out: records}) if renderer.pools_folds else to_frame(records)
        plain(renderer.render(frame))
    elif not as_json:
        measured = any(record.status == "ok" for record in records)
        if measured:
            show(records, settings.out / "samples")
        where = f"records: {settings.out / 'records.jsonl'}"
        where += f"   per image: {settings.out / 'samples'}" if measured else ""
        out.print(where, style="dim", markup=False)
        if not measured:
            for line in nothing_measured(records):
                plain(line)
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        err.print(f"failed: {name_of(record)}: {record.reason}", style="red", markup=False, soft_wrap=True)
        if (culprit := runner.evaluator.tracebacks.get(record.cell_id)) is not None:
            show_plugin_traceback(culprit)
    refuted = contradicted(records)
    for line in refuted:
        err.print(line, style="bold red", markup=False, soft_wrap=True)
    if failed or refuted:
        raise typer.Exit(1)


def _kept(records: list[Record], folder: Path) -> str:
    """What an interruption leaves of a run."""
    if not records:
        return "no cell is complete"
    count, them = ("1 cell is", "it") if len(records) == 1 else (f"{len(records)} cells are", "them")
    return f"{count} in {folder / 'records.jsonl'} (`rbmed table` shows {them})"
