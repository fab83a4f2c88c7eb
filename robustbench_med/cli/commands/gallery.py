"""``rbmed leaderboard gallery``: pictures of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.commands.plugins import PluginFiles, registry
from robustbench_med.cli.console import plain
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.errors import BadParameter, UsageError
from robustbench_med.progress import Silent

if TYPE_CHECKING:
    from robustbench_med.leaderboard.schema import Entry
    from robustbench_med.reproduction.verify import Verifier


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
    from robustbench_med.leaderboard.render.page.gallery import MANIFEST
    from robustbench_med.leaderboard.sources.folder import read_sources
    from robustbench_med.reproduction.verify import Verifier

    folder = root / "gallery"
    entries = {entry.id: entry for board in read_sources(root).boards() for entry in board.entries}
    if strange := [name for name in row or [] if name not in entries]:
        raise BadParameter(f"--row {strange[0]!r}: there is no such row; leaderboard.csv lists their ids")
    if row:
        wanted = [entries[name] for name in row]
    else:
        ranked = (entry for entry in entries.values() if entry.ranked and entry.records[0].dataset.synthetic)
        wanted = [entry for entry in ranked if not (folder / entry.id / MANIFEST).is_file()]
    verifier = Verifier(registry(plugin), device, progress=RichProgress())
    drawn = 0
    for place in drawing(verifier, wanted, folder, images):
        plain(f"{place}")
        drawn += 1
    plain(f"{drawn} of {len(wanted)} rows drawn; next: rbmed leaderboard build")
    if row and drawn < len(wanted):
        raise typer.Exit(1)


def drawing(
    verifier: Verifier, entries: Sequence[Entry], folder: Path, images: int, patients: bool = False
) -> Iterator[Path]:
    """Draw the gallery of each row, and say which rows could not be drawn and why; the folders of those that could."""
    from robustbench_med.reproduction.gallery import draw

    with (verifier.progress or Silent()).task("drawing images", len(entries)) as bar:
        for entry in entries:
            try:
                yield draw(verifier, entry, folder, images, patients)
            except UsageError as error:
                plain(f"left out: {entry.id}: {error}")
            bar.advance()
