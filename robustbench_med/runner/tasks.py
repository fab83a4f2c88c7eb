"""Whether a cell fits the task of its data set, and every part of the defense does."""

from __future__ import annotations

from robustbench_med.defenses.resolved import ResolvedDefense
from robustbench_med.defenses.tasks import check_parts
from robustbench_med.errors import DataError
from robustbench_med.grid.cell import Cell
from robustbench_med.interfaces.dataset import DataCard


def check_task(cell: Cell, card: DataCard, asked: DataCard, resolved: ResolvedDefense) -> None:
    """Raise `UsageError` for a goal or a part that does not fit the task.

    Args:
        cell: the cell.
        card: of the data set.
        asked: of the question about it; where it is about one finding, a card of two classes.
        resolved: the defense.
    """
    goal = cell.threat.goal
    if goal in ("distant", "farthest"):
        if card.task != "ordinal" or len(card.classes) < 3:
            raise DataError(f"data set {card.name!r} has no scale of three grades or more, which --goal {goal} needs")
    elif goal != "untargeted" and asked.lesion_class is None:
        hint = "; name a finding: --finding" if card.task == "multi-label" else ""
        raise DataError(f"data set {card.name!r} names no lesion class, which --goal {goal} needs{hint}")
    check_parts(card, resolved, cell.threat.finding)
