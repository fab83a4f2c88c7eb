"""``rbmed reproduce``: a published table next to what is measured here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_med.cli import early_checks
from robustbench_med.cli.app import EVALUATION, app
from robustbench_med.cli.console import err, out, plain, row, table
from robustbench_med.cli.options import PluginFiles, registry, takes
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.cli.progress.state import duration
from robustbench_med.cli.resuming import resumable
from robustbench_med.files.atomic import check_writable

if TYPE_CHECKING:
    from robustbench_med.interfaces.dataset import DataCard
    from robustbench_med.records.record import Record
    from robustbench_med.reproduction.published import MeasuredRow, Study


@app.command(rich_help_panel=EVALUATION)
@takes("data_root", "partition", "limit", "train_seed", "device", "batch_size", single=("train_seed",))
def reproduce(
    options: dict[str, Any],
    defense: Annotated[str, typer.Argument(help="Defense that has a reproduction, such as medfedpure.")],
    size: Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels. [the preset's]")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset of the defenses, such as paper. [the first]")] = None,
    adaptive_limit: Annotated[int | None, typer.Option(min=1, help="Test images for the ladder. [the paper's]")] = None,
    estimate: Annotated[bool, typer.Option(help="First estimate the time of the training.")] = True,
    target: Annotated[
        Path | None, typer.Option("--out", help="Folder for records, samples and table. [results/reproduce-DEFENSE]")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Measure a paper's table again, train what is missing, and show its rows next to ours and the worst case."""
    known = registry(plugin)
    known.find("defense", defense)
    from robustbench_med.reproduction.published import Study, configs, find

    reproduction = find(known, defense)
    for config in configs(reproduction, options, preset, size, adaptive_limit):
        early_checks.check(config, known)
    folder = target or Path("results") / f"reproduce-{defense.rpartition('/')[2]}"
    check_writable(folder)
    from robustbench_med.cli.tables.records import name_of, warnings
    from robustbench_med.plugins.components import create

    markdown = create(known, "report", "markdown")
    study = Study(
        reproduction, {**options, "out": folder}, preset, size, adaptive_limit, registry=known, progress=RichProgress()
    )
    with resumable(lambda: f"what is complete is in {folder}"):
        if estimate:
            _estimate(study)
        records = list(study.run())
    lines = study.lines(records)
    head, cells = figures(lines)
    shown = table(*head, title=f"{reproduction.title}   {_setting(study, records)}", right=head[1:])
    for each in cells:
        row(shown, *each)
    out.print(shown)
    notes = _notes(study, records)
    for note in notes:
        plain(note)
    import pandas as pd

    text = markdown.render(pd.DataFrame(cells, columns=list(head)))
    paragraphs = [f"# {reproduction.title}", _setting(study, records), text.rstrip(), *notes]
    (folder / "table.md").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    out.print(f"records: {folder / 'records.jsonl'}   table: {folder / 'table.md'}", style="dim", markup=False)
    for warning in warnings(records):
        err.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        err.print(f"failed: {name_of(record)}: {record.reason}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _estimate(study: Study) -> None:
    """Print what has to be trained, and about how long that takes."""
    from robustbench_med.training.estimate import missing

    work = missing(study.runners[0].loader, [cell.trained for cells in study.cells for cell in cells])
    total = 0.0
    for item in work:
        seconds = item.seconds()
        total += seconds or 0.0
        how = "" if seconds is None else f": about {duration(seconds)}"
        err.print(f"to train: {item.part} with {item.strategy.spec_name}{how}", markup=False, soft_wrap=True)
    if work:
        device = work[0].device
        err.print(f"training takes about {duration(total)} on {device}, estimated from a trial", markup=False)


def figures(lines: Sequence[MeasuredRow]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Column names and the cells of each line: percent, with 95 % intervals."""
    from robustbench_med.interfaces.rate import percent

    attacks = [record.attack.name for record in lines[0].measured]
    head = ("defense", "paper clean", "paper attacked", "clean", *attacks, "FPR/TPR", "ladder, worst", "n")
    cells = []
    for line in lines:
        published, first = line.row.published, line.measured[0]
        gate = ""
        if first.metrics.get("detector_fpr") is not None:
            gate = f"{percent(first.metrics['detector_fpr'])}/{percent(first.metrics['detector_tpr'])}"
        cells.append(
            [
                line.row.name,
                f"{published.clean:.2f}" if published else "",
                f"{published.attacked:.2f}" if published else "",
                percent(first.metrics.get("clean_accuracy")),
                *(_robust(record) for record in line.measured),
                gate,
                _robust(line.worst),
                f"{first.n}, {line.worst.n}",
            ]
        )
    return head, cells


def _robust(record: Record) -> str:
    from robustbench_med.interfaces.rate import percent

    if record.status != "ok":
        return record.status
    low, high = record.intervals.get("robust_accuracy", (None, None))
    between = "" if low is None or high is None else f" [{100 * low:.0f},{100 * high:.0f}]"
    return percent(record.metrics.get("robust_accuracy")) + between


def _card(study: Study) -> DataCard:
    return study.runners[0].loader.dataset(study.cells[0][0].trained).card()


def _setting(study: Study, records: Sequence[Record]) -> str:
    """Data, partition and attack, in one line."""
    from robustbench_med.records.summary import attack_of

    first, card = records[0], _card(study)
    parts = (
        f"{card.name} at {card.size} px{' (synthetic)' if card.synthetic else ''}",
        first.dataset.partition or "by site",
        f"{attack_of(first)}, {first.threat.norm} {first.threat.eps:g}",
    )
    return "   ".join(parts)


def _notes(study: Study, records: Sequence[Record]) -> list[str]:
    """The source of the numbers, and their meaning."""
    names = [record.attack.name for record in records[: len(study.cells[0]) // len(study.reproduction.row)]]
    controls = f"; {', '.join(names[1:])}: control" if names[1:] else ""
    return [
        f"paper: {study.reproduction.source}. ours: accuracy in percent with 95 % intervals; {names[0]}: the paper's "
        f"attack, which does not know the defense{controls}; ladder, worst: {study.configs[1].access[0]}, attacks "
        "that see more and more of the defense, worst case per image; n: images for each",
        *_card(study).notes,
        *filter(None, [study.reproduction.note]),
        f"measured {dt.datetime.now(dt.UTC).date().isoformat()} on {study.runners[0].device}",
    ]
