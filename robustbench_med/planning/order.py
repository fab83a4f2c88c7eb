"""In which order cells run: so that what they share is opened once and is still at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from robustbench_med.planning.cell import Cell

T = TypeVar("T")


def shared(cell: Cell) -> tuple[str, ...]:
    """What is opened for a cell, from what many share to what few do: data, weights, clients, clean predictions."""
    trained = cell.trained
    return (
        repr((trained.dataset, trained.partition, trained.unseen)),
        repr(trained),
        repr(cell.clients),
        repr((cell.limit, cell.threat.goal, cell.seed, cell.draws)),
    )


def grouped(items: Iterable[T], keys: Callable[[T], tuple[str, ...]]) -> list[T]:
    """The items with equal first key side by side, among these those with equal second key, and so on.

    Groups, and the items within one, keep their order.
    """
    first: dict[tuple[str, ...], int] = {}

    def place(item: T) -> tuple[int, ...]:
        path = keys(item)
        return tuple(first.setdefault(path[:depth], len(first)) for depth in range(1, len(path) + 1))

    # The sort asks for all places, in order, before it compares any.
    return sorted(items, key=place)
