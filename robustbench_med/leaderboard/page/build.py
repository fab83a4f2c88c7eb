"""Write the page to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_med.atomic import new_folder, store_errors, write_text
from robustbench_med.leaderboard.model import Board
from robustbench_med.leaderboard.page.site import pages

#: Folders below the page's that are made anew each time: what lies in them and is not of these boards goes.
OWN = ("assets", "entries")


def build(boards: Sequence[Board], folder: Path) -> None:
    """Write ``index.html``, ``assets/`` and ``entries/<row>.html``, the same bytes for the same boards.

    Pictures of the rows are linked where they lie in ``folder/gallery``.

    Args:
        boards: what to show.
        folder: where; whatever else is in it stays.

    Raises:
        StoreError: a file cannot be written.
        DataError: a gallery is damaged.
    """
    with new_folder(folder / OWN[0]) as assets, new_folder(folder / OWN[1]) as entries:
        drafts, own = dict(zip(OWN, (assets, entries), strict=True)), {}
        for path, text in pages(boards, folder / "gallery"):
            below, _, name = path.rpartition("/")
            if not below:
                own[name] = text
                continue
            with store_errors(folder / path):
                (drafts[below] / name).write_text(text, encoding="utf-8", newline="\n")
        for name, text in own.items():
            write_text(folder / name, text)
