"""``rbmed leaderboard``: the published leaderboard, built, shown and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.style import err, plain

leaderboard = typer.Typer(
    no_args_is_help=True, help="The published leaderboard: build it, show it, check what is handed in."
)
Root = Annotated[Path, typer.Option(help="Folder of the leaderboard.")]


@leaderboard.command()
def build(
    root: Root = Path("leaderboard"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a file would change.")] = False,
) -> None:
    """Make the tables from the records."""
    from robustbench_med.leaderboard.building import rendered, stale, write
    from robustbench_med.leaderboard.sources import read_sources

    files = rendered(read_sources(root))
    if not check:
        changed = write(root, files)
        plain(f"{root}: {', '.join(changed)} written" if changed else f"{root}: nothing changed")
        return
    if found := stale(root, files):
        err.print(f"{root}: not what the records give: {', '.join(found)}; run rbmed leaderboard build")
        raise typer.Exit(1)
    plain(f"{root}: as the records give it")


@leaderboard.command()
def add(
    results: Annotated[Path, typer.Argument(help="Folder of results.")],
    root: Root = Path("leaderboard"),
    name: Annotated[str | None, typer.Option(help="File for records that are not there yet.")] = None,
) -> None:
    """Add measured results: their records, and what became of each image."""
    from robustbench_med.leaderboard.adding import add as added
    from robustbench_med.leaderboard.sources import checked_name

    records, outcomes = added(root, results, None if name is None else checked_name(name))
    plain(f"{root}: {records} records and the outcomes of {outcomes} cells added; next: rbmed leaderboard build")
