"""``rbmed plan``: what a run would do, and about what it would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from robustbench_med.cli import console, early_checks
from robustbench_med.cli.app import EVALUATION, app
from robustbench_med.cli.options import AsJson, Config, PluginFiles, Quiet, registry, takes
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.cli.progress.state import duration
from robustbench_med.interfaces.plural import plural
from robustbench_med.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.table import Table

    from robustbench_med.runner.preview import Item, Preview, State

#: What each state is called, in the order in which they are counted.
STATES: dict[State, str] = {
    "done": "done",
    "run": "to run",
    "train": "to train and run",
    "skip": "skipped",
    "refused": "without weights",
}


@app.command(rich_help_panel=EVALUATION)
@takes()
def plan(
    options: dict[str, Any],
    config: Config = None,
    estimate: Annotated[bool, typer.Option(help="Estimate the cost of each cell from a few calls.")] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
    plugin: PluginFiles = None,
) -> None:
    """Show the cells that `rbmed run` would measure: which are done, which are skipped and why, and about how long."""
    from robustbench_med.grid.config import build

    known, settings = registry(plugin), build(options, config)
    early_checks.check(settings, known)
    from robustbench_med.runner.preview import Preview

    # A terminal gets bars; a log, or a reader of the JSON, gets only the plan.
    progress: Progress = RichProgress() if console.err.is_terminal and not quiet else Silent()
    preview = Preview(settings, known, progress)
    items = preview.items(estimate)
    trainings = [
        {"part": work.part, "strategy": work.strategy.spec_name, "seconds": work.seconds()}
        for work in (preview.trainings(items) if estimate else ())
    ]
    if as_json:
        console.emit_json(_facts(preview, items, trainings))
    else:
        _print(preview, items, trainings)
    if any(item.state == "refused" for item in items):
        raise typer.Exit(2)


def _facts(preview: Preview, items: Sequence[Item], trainings: list[dict[str, Any]]) -> dict[str, Any]:
    from robustbench_med.grid.cell import cell_labels

    return {
        "out": str(preview.config.out),
        "device": str(preview.runner.device),
        "idle_patterns": preview.idle(),
        "trainings": trainings,
        "trials": preview.costs.trials,
        "trial_seconds": preview.costs.seconds,
        "cells": [
            {
                **cell_labels(item.cell),
                "state": item.state,
                "reason": item.reason or None,
                "cell_id": item.cell_id,
                "images": item.images,
                "cost": None if item.cost is None else asdict(item.cost),
            }
            for item in items
        ],
    }


def _print(preview: Preview, items: Sequence[Item], trainings: list[dict[str, Any]]) -> None:
    from robustbench_med.grid.cell import cell_labels

    rows = [cell_labels(item.cell) for item in items]
    columns = _columns(rows)
    same = [rows[0][key] for key in ("dataset", "norm", "eps") if key not in columns]
    console.out.print(Text(f"{'  '.join(same)}   to {preview.config.out}".strip(), style="bold"), soft_wrap=True)
    console.show_table(_table(items, rows, columns))
    for line in _notes(items):
        console.plain(line)
    for each in trainings:
        about = "" if each["seconds"] is None else f": about {duration(each['seconds'])}"
        console.plain(f"to train: {each['part']} with {each['strategy']}{about}")
    console.out.print()
    console.plain(_total(preview, items, trainings))
    for source in preview.idle():
        console.warn(f"no cell matches the pattern {source!r}")
    for reason in dict.fromkeys(item.reason for item in items if item.state == "refused"):
        console.error(reason)


def _columns(rows: Sequence[dict[str, str]]) -> list[str]:
    """The columns: defense, attack and access, and what else differs between cells."""
    from robustbench_med.grid.cell import ALWAYS, axes

    return [*ALWAYS, *(key for key in axes(rows) if key not in ("role", *ALWAYS))]


def _table(items: Sequence[Item], rows: Sequence[dict[str, str]], columns: Sequence[str]) -> Table | console.Lines:
    """One row for each cell; what tells cells apart is never left out."""
    from robustbench_med.grid.cell import ALWAYS

    priced = any(item.cost for item in items)
    figures = ("images", "gradients", "queries", "time") if priced else ("images",)
    headings = {key: key.replace("_", " ") for key in columns}
    return console.filled(
        "",
        [*headings.values(), *figures, "state"],
        [_cells(item, row, columns, priced) for item, row in zip(items, rows, strict=True)],
        figures,
        keep=("attack", *(text for key, text in headings.items() if key not in ALWAYS), "time", "state"),
        first_to_go=("gradients", "queries", "images"),
        dim={at for at, item in enumerate(items) if item.state not in ("run", "train")},
    )


def _cells(item: Item, row: dict[str, str], columns: Sequence[str], priced: bool) -> list[str]:
    """The texts of a row."""
    cost = item.cost
    spent = (f"{cost.gradients:,}", f"{cost.queries:,}", duration(cost.seconds)) if cost else ("",) * 3 * priced
    images = "" if item.images is None else str(item.images)
    return [*(row[key] for key in columns), images, *spent, STATES[item.state]]


def _notes(items: Sequence[Item]) -> Iterator[str]:
    """Why cells are skipped, and why costs are unknown; each reason once."""
    for state, what in (("skip", "skipped"), ("run", "not estimated"), ("train", "not estimated")):
        reasons = Counter(item.reason for item in items if item.state == state and item.reason)
        for reason, number in reasons.items():
            yield f"{what} ({number}): {reason}"


def _total(preview: Preview, items: Sequence[Item], trainings: list[dict[str, Any]]) -> str:
    from robustbench_med.runner.cost import total

    counts = Counter(item.state for item in items)
    said = ", ".join(f"{counts[state]} {name}" for state, name in STATES.items() if counts[state])
    line = f"{plural(len(items), 'cell')}: {said}."
    costs = [item.cost for item in items if item.cost is not None]
    if costs:
        whole = total(costs)
        seconds = whole.seconds + sum(each["seconds"] or 0.0 for each in trainings)
        line += (
            f" At most {whole.gradients:,} gradients and {whole.queries:,} queries; about {duration(seconds)} "
            f"on {preview.runner.device}. {_how(preview)}"
        )
    return line


def _how(preview: Preview) -> str:
    """How costs were estimated."""
    made = preview.costs
    how = "Estimated from the attacks' passes, counted on a toy, and the seconds of a pass on a few images: "
    if not made.trials:
        return f"{how}all from earlier plans on this machine."
    return f"{how}{plural(made.trials, 'trial')} in {made.seconds:.1f} s, kept for later plans."
