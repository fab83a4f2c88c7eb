"""``rbmed leaderboard gallery``: example images of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.commands.leaderboard import Root, leaderboard
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import PluginFiles, RecordDevice, registry
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.errors import BadParameter, UsageError
from robustbench_med.interfaces.plural import plural
from robustbench_med.progress import Silent

if TYPE_CHECKING:
    from robustbench_med.leaderboard.entry import Entry
    from robustbench_med.reproduction.verify import Verifier


@leaderboard.command()
def gallery(
    root: Root = Path("leaderboard"),
    row: Annotated[
        list[str] | None, typer.Option(help="Only this row, by its id. May be repeated. [ranked rows without images]")
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=20, help="Images per row.")] = 4,
    device: RecordDevice = None,
    plugin: PluginFiles = None,
) -> None:
    """Attack a few synthetic images of each row, and store them for the row's page."""
    from robustbench_med.leaderboard.render.page.gallery import MANIFEST
    from robustbench_med.leaderboard.sources.folder import read_sources

    folder = root / "gallery"
    entries = {entry.id: entry for board in read_sources(root).boards() for entry in board.entries}
    if unknown := [name for name in row or [] if name not in entries]:
        raise BadParameter(f"--row {unknown[0]!r}: there is no such row; leaderboard.csv lists the ids")
    if row:
        wanted = [entries[name] for name in row]
    else:
        # Rows of an earlier revision are left out: what is drawn is today's system, which they are not of.
        ranked = (entry for entry in entries.values() if entry.ranked and entry.records[0].dataset.synthetic)
        wanted = [entry for entry in ranked if not (folder / entry.id / MANIFEST).is_file()]
    from robustbench_med.reproduction.verify import Verifier

    verifier = Verifier(registry(plugin), device, progress=RichProgress())
    drawn = 0
    for place in draw_rows(verifier, wanted, folder, images):
        plain(str(place))
        drawn += 1
    plain(f"{drawn} of {plural(len(wanted), 'row')} drawn; next: rbmed leaderboard build")
    if row and drawn < len(wanted):
        raise typer.Exit(1)


def draw_rows(
    verifier: Verifier, entries: Sequence[Entry], folder: Path, images: int, patients: bool = False
) -> Iterator[Path]:
    """Draw the images of each row and yield its folder; print which rows cannot be drawn, and why."""
    from robustbench_med.reproduction.gallery import draw

    with (verifier.progress or Silent()).task("drawing images", len(entries)) as bar:
        for entry in entries:
            try:
                yield draw(verifier, entry, folder, images, patients)
            except UsageError as error:
                plain(f"not drawn: {entry.id}: {error}")
            bar.advance()
