"""What a cell is called along each axis of the grid, and what tells the cells of a grid apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from robustbench_med.patterns import FACETS
from robustbench_med.references import PartRef
from robustbench_med.spelling import spelled_eps, spelled_ref

if TYPE_CHECKING:
    from robustbench_med.plan import Cell


def facets(cell: Cell) -> dict[str, str]:
    """The cell's names, by the keys of `robustbench_med.patterns.FACETS`; "" where nothing was asked for.

    A ladder is called ``ladder:quick``, with the attack behind it where one was named; several clients are joined by
    ``+``, and none is ``all``.
    """
    trained, threat = cell.trained, cell.threat
    return {
        "dataset": spelled_ref(trained.dataset),
        "partition": _spelled(trained.partition),
        "model": _spelled(trained.model),
        "strategy": _spelled(trained.strategy),
        "train_seed": "" if trained.seed is None else str(trained.seed),
        "defense": spelled_ref(trained.defense),
        "attack": _attack(cell.attack),
        "access": threat.access,
        "norm": threat.norm,
        "eps": spelled_eps(threat.eps),
        "goal": threat.goal,
        "client": "+".join(cell.clients) or "all",
        "seed": str(cell.seed),
        "role": cell.role,
    }


def axes(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The keys along which these `facets` differ, in the order of `robustbench_med.patterns.FACETS`."""
    return tuple(key for key in FACETS if len({row[key] for row in rows}) > 1)


def titles(cells: Sequence[Cell]) -> list[str]:
    """A short name for each cell: defense, attack and access, then whatever else differs in this grid."""
    rows = [facets(cell) for cell in cells]
    always = ("defense", "attack", "access")
    more = [key for key in axes(rows) if key not in always]
    return [" / ".join(_titled(key, row[key]) for key in (*always, *more) if row[key]) for row in rows]


def _titled(key: str, text: str) -> str:
    """Numbers alone say nothing."""
    return f"{key.replace('_', ' ')} {text}" if key in ("eps", "seed", "train_seed") else text


def _spelled(ref: PartRef | None) -> str:
    return "" if ref is None else spelled_ref(ref)


def _attack(ref: PartRef) -> str:
    if ref.name != "ladder":
        return spelled_ref(ref)
    return " ".join(filter(None, [f"ladder:{ref.params['preset']}", str(ref.params.get("attack", ""))]))
