"""``rbmed leaderboard gallery``: pictures of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli.plugins import PluginFiles, registry
from robustbench_med.cli.style import plain
from robustbench_med.errors import BadParameter, UsageError


def gallery(
    root: Annotated[Path, typer.Option(help="Folder of the leaderboard.")] = Path("leaderboard"),
    row: Annotated[
        list[str] | None, typer.Option(help="Only this row, by its id. [ranked rows without pictures]")
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=20, help="Images of a row.")] = 4,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:i. [the record's, or cpu]")] = None,
    plugin: PluginFiles = None,
) -> None:
    """Attack a few synthetic images of each row, and keep what is to be seen for its page."""
    from robustbench_med.leaderboard.page.gallery import MANIFEST
    from robustbench_med.leaderboard.sources import read_sources
    from robustbench_med.reproducing.gallery import draw
    from robustbench_med.reproducing.verify import Verifier

    folder = root / "gallery"
    entries = {entry.id: entry for board in read_sources(root).boards() for entry in board.entries}
    if strange := [name for name in row or [] if name not in entries]:
        raise BadParameter(f"--row {strange[0]!r}: there is no such row; leaderboard.csv lists their ids")
    if row:
        wanted = [entries[name] for name in row]
    else:
        ranked = (entry for entry in entries.values() if entry.ranked and entry.records[0].dataset["synthetic"])
        wanted = [entry for entry in ranked if not (folder / entry.id / MANIFEST).is_file()]
    verifier = Verifier(registry(plugin), device)
    drawn = 0
    for entry in wanted:
        try:
            plain(f"{draw(verifier, entry, folder, images)}")
            drawn += 1
        except UsageError as error:
            plain(f"left out: {entry.id}: {error}")
    plain(f"{drawn} of {len(wanted)} rows drawn; next: rbmed leaderboard build")
    if row and drawn < len(wanted):
        raise typer.Exit(1)
