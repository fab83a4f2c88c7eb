"""What a cell is called along each axis of the grid, and what tells the cells of a grid apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from robustbench_med.planning.patterns import FACETS
from robustbench_med.references import PartRef
from robustbench_med.spelling import spelled_eps, spelled_ref

if TYPE_CHECKING:
    from robustbench_med.planning.cell import Cell

#: What is in the title of every cell.
ALWAYS = ("defense", "attack", "access")


def facets(cell: Cell) -> dict[str, str]:
    """The cell's names, by the keys of `robustbench_med.planning.patterns.FACETS`; "" where nothing was asked for.

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
    """The keys along which these `facets` differ, in the order of `robustbench_med.planning.patterns.FACETS`."""
    return tuple(key for key in FACETS if len({row[key] for row in rows}) > 1)


def telling(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The keys that tell these cells apart besides those that are in every `title`."""
    return tuple(key for key in axes([facets(cell) for cell in cells]) if key not in ALWAYS)


def title(cell: Cell, more: Sequence[str] = ()) -> str:
    """A short name: defense, attack and access, then the facets ``more``, as `telling` finds them."""
    names = facets(cell)
    return " / ".join(_titled(key, names[key]) for key in (*ALWAYS, *more) if names[key])


def _titled(key: str, text: str) -> str:
    """Numbers alone say nothing."""
    return f"{key.replace('_', ' ')} {text}" if key in ("eps", "seed", "train_seed") else text


def _spelled(ref: PartRef | None) -> str:
    return "" if ref is None else spelled_ref(ref)


def _attack(ref: PartRef) -> str:
    if ref.name != "ladder":
        return spelled_ref(ref)
    return " ".join(filter(None, [f"ladder:{ref.params['preset']}", str(ref.params.get("attack", ""))]))
