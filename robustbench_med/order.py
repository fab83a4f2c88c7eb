"""In which order cells run: so that what they share is opened once and is still at hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustbench_med.plan import Cell, Skip


def ordered(cells: Iterable[Cell | Skip]) -> list[Cell | Skip]:
    """The cells grouped by data, in that by trained weights, in that by the images and draws of clean predictions.

    Groups, and the cells within one, keep the order in which they were asked for.
    """
    first: dict[tuple[str, ...], int] = {}

    def place(planned: Cell | Skip) -> tuple[int, ...]:
        shared = _shared(getattr(planned, "cell", planned))
        return tuple(first.setdefault(shared[:depth], len(first)) for depth in range(1, len(shared) + 1))

    # All places are taken before any are compared, so a group counts from its first cell.
    return [cell for _, cell in sorted([(place(cell), cell) for cell in cells], key=lambda pair: pair[0])]


def _shared(cell: Cell) -> tuple[str, ...]:
    """What is opened for a cell, from what many share to what few do."""
    trained = cell.trained
    return (
        repr((trained.dataset, trained.partition, trained.unseen)),
        repr(trained),
        repr((cell.clients, cell.limit, cell.threat.goal, cell.seed, cell.draws)),
    )
