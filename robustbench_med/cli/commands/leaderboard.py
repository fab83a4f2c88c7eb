"""``rbmed leaderboard``: build, extend and show the published leaderboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from robustbench_med.cli import console
from robustbench_med.cli.app import LEADERBOARD, CommandGroup, app
from robustbench_med.cli.console import err, out, plain
from robustbench_med.cli.options import registry
from robustbench_med.errors import BadParameter
from robustbench_med.grid.local_checks import check_images
from robustbench_med.grid.names import check_component, check_partition
from robustbench_med.interfaces.plural import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from robustbench_med.leaderboard.board import Board
    from robustbench_med.leaderboard.entry import Entry
    from robustbench_med.leaderboard.render.columns import Column
    from robustbench_med.records.record import Record

leaderboard = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, help="The published leaderboard: build and show it, check submissions."
)
app.add_typer(leaderboard, name="leaderboard", rich_help_panel=LEADERBOARD)
Root = Annotated[Path, typer.Option(help="Folder of the leaderboard.")]
ReadRoot = Annotated[
    Path | None, typer.Option(help="Folder of the leaderboard. [leaderboard, or the one published with the package]")
]


@leaderboard.command()
def build(
    root: Root = Path("leaderboard"),
    compare: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if a file would change.")
    ] = False,
) -> None:
    """Build the tables and pages from the records; names for people come from the plugins that are installed."""
    from robustbench_med.leaderboard.build import rendered, stale, write
    from robustbench_med.leaderboard.sources.folder import no_collection, read_sources
    from robustbench_med.leaderboard.sources.names import refreshed

    found = registry()
    with no_collection():
        sources = read_sources(root)
        names = refreshed(sources.names, lambda kind, name: found.find(kind, name).spec, sources.every_record)
        files = rendered(replace(sources, names=names), root / "gallery")
    if not compare:
        changed = write(root, files)
        plain(f"{root}: {_few(changed)} written" if changed else f"{root}: nothing changed")
        return
    if old := stale(root, files):
        err.print(f"{root} is out of date: {_few(old)}; run rbmed leaderboard build", markup=False)
        raise typer.Exit(1)
    plain(f"{root} is up to date")


def _few(names: list[str]) -> str:
    """The first names of a list: there may be thousands of pages."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


@leaderboard.command()
def add(
    results: Annotated[Path, typer.Argument(help="Folder of results.")],
    root: Root = Path("leaderboard"),
    name: Annotated[str | None, typer.Option(help="File for the new records.")] = None,
) -> None:
    """Add measured results: their records, and the result of each image."""
    from robustbench_med.leaderboard.add import add as added
    from robustbench_med.leaderboard.sources.submission import checked_name

    records, outcomes = added(root, results, None if name is None else checked_name(name))
    plain(
        f"{root}: {plural(records, 'record')} and the outcomes of {plural(outcomes, 'cell')} "
        "added; next: rbmed leaderboard build"
    )


@leaderboard.command()
def archive(root: Root = Path("leaderboard")) -> None:
    """Move ladders of an earlier revision, which no one can run again, into the archive."""
    from robustbench_med.leaderboard.archive import archive as moved
    from robustbench_med.leaderboard.archive import earlier_ladders
    from robustbench_med.leaderboard.sources.folder import read_sources

    count = moved(root, earlier_ladders(read_sources(root)))
    plain(f"{root}: {plural(count, 'record')} archived" + ("; next: rbmed leaderboard build" if count else ""))


@leaderboard.command()
def split(
    dataset: Annotated[str, typer.Argument(help="A data set, with its parameters.")],
    root: Root = Path("leaderboard"),
    partition: Annotated[str | None, typer.Option(help="How clients are made of it.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of its images.")] = None,
) -> None:
    """Write label, hashed patient and client of each test image, which intervals and clients' figures are made of."""
    known = registry()
    check_component(known, "dataset", dataset)
    if partition is not None:
        check_partition(partition)
    check_images(known, dataset, data_root)
    from robustbench_med.datasets.test_split import facts_of, opened
    from robustbench_med.leaderboard.sources.folder import SPLITS
    from robustbench_med.leaderboard.sources.test_split import TestSplit, named, write

    found = TestSplit(**facts_of(opened(known, dataset, partition, data_root), partition))
    path = root / SPLITS / named(found)
    path.parent.mkdir(exist_ok=True)
    write(path, found)
    patients = plural(len(set(found.patients)), "patient") if found.patients else "patients are not known"
    plain(f"{path}: {plural(len(found.labels), 'image')}, {patients}, {plural(len(set(found.sites)), 'client')}")


#: Columns that fit a terminal.
SHOWN = "rank,defense,strategy,clean,robust,claim,drop,fresh,flags"


@leaderboard.command()
def show(
    root: ReadRoot = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    norm: Annotated[str | None, typer.Option(help="Only this norm: linf, l2, l1.")] = None,
    eps: Annotated[str | None, typer.Option(help="Only this eps: 4/255 or a number.")] = None,
    track: Annotated[str | None, typer.Option(help="Only tracks that begin with this: static, det, rand.")] = None,
    client: Annotated[str | None, typer.Option(help="Results of this client alone, without ranks.")] = None,
    sort: Annotated[str, typer.Option(help="Sort rows by this column. [rank]")] = "",
    columns: Annotated[str | None, typer.Option(help="Columns of the table, separated by commas.")] = None,
    ranked: Annotated[bool, typer.Option("--ranked", help="Omit rows without rank.")] = False,
    form: Annotated[
        Literal["table", "markdown", "csv", "json", "tex"],
        typer.Option("--format", case_sensitive=False, help="table, markdown, csv, json or tex."),
    ] = "table",
) -> None:
    """Show the leaderboard in the terminal."""
    from robustbench_med.leaderboard import filters
    from robustbench_med.leaderboard.render.data_formats import to_csv, to_json
    from robustbench_med.leaderboard.render.latex import to_tex
    from robustbench_med.leaderboard.render.markdown import to_markdown
    from robustbench_med.leaderboard.sources.folder import default_folder, read_sources

    wanted = filters.columns(columns or SHOWN)
    choice = filters.Choice(dataset, norm, eps, track, client, sort, ranked)
    filters.check_words(choice)
    sources = read_sources(root or default_folder(), lambda records: filters.check_values(records, choice))
    boards = filters.chosen(sources.boards(), choice)
    if form == "table":
        for board in boards:
            _print(board, wanted)
        if not boards:
            plain("no row matches")
    else:
        render = {"markdown": to_markdown, "csv": to_csv, "json": to_json, "tex": to_tex}[form]
        print(render(boards), end="")


def _print(board: Board, columns: list[Column]) -> None:
    from robustbench_med.records.summary import images_of

    for section in board.sections:
        images = images_of(section.images, section.patients)
        out.print(_table(f"{board.title}   {section.track}   {section.ladder}, {images}", section.entries, columns))
        for note in section.notes:
            plain(f"  {note}")
        for flag, meaning in sorted({(mark.flag, mark.meaning) for each in section.entries for mark in each.marks}):
            plain(f"  {flag}: {meaning}")
        plain("")
    if board.unranked:
        out.print(_table(f"{board.title}   without rank", board.unranked, columns))
        for reason in sorted({each.why_not for each in board.unranked}):
            count = sum(each.why_not == reason for each in board.unranked)
            plain(f"  {plural(count, 'row')}: {reason}")
        plain("")


def _table(title: str, entries: Sequence[Entry], columns: list[Column]) -> Table:
    filled = [column for column in columns if any(column.text(entry) for entry in entries)]
    right = tuple(column.title for column in filled if column.right)
    names = [column.title for column in filled]
    rows = [[column.text(entry) for column in filled] for entry in entries]
    kept = console.telling_apart(names, rows, (*right, "marks")) if "defense" in names else []
    table = console.table(*names, title=title, right=right, keep=("defense", "robust [95 %]", *kept))
    table.padding = (0, 1, 0, 0)
    for row in rows:
        console.row(table, *row)
    return table


@leaderboard.command()
def log(
    root: ReadRoot = None,
    defense: Annotated[str | None, typer.Option(help="Only this defense.")] = None,
    superseded: Annotated[bool, typer.Option("--superseded", help="Only records that were superseded.")] = False,
) -> None:
    """Show what was measured when, and what superseded it."""
    from robustbench_med.interfaces.rate import percent
    from robustbench_med.leaderboard.ranking import identity
    from robustbench_med.leaderboard.ranking.history import events
    from robustbench_med.leaderboard.sources.folder import default_folder, read_sources

    def check(records: list[Record]) -> None:
        there = {record.defense.name for record in records}
        if defense is not None and defense not in there:
            raise BadParameter(f"--defense {defense}: no record is of it; valid: {', '.join(sorted(there))}")

    table = console.table("date", "cell", "defense", "attack", "seed", "robust", "", "file", right=("robust",))
    for event in events(read_sources(root or default_folder(), check).files):
        record = event.record
        if (defense and record.defense.name != defense) or (superseded and event.after is None):
            continue
        what = f"superseded by {event.after.cell_id[:8]}" if event.after else "counts"
        found = percent(record.metrics.get("robust_accuracy")) if record.status == "ok" else record.status
        names = identity.defense(record), identity.protocol(record), identity.train_seed(record)
        console.row(table, record.created[:10], record.cell_id[:8], *names, found, what, event.file)
    out.print(table)
