"""What the cells of a run are called while it runs: as short as tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robustbench_med.grid.cell import Cell, cell_labels
from robustbench_med.plugins.references import PartRef, format_ref


class Titles:
    """Titles of ``cells``: ``undefended / ladder / ladder``, and what else they differ in: ``..., fold 2, seed 1``."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._full = {kind: _of_one_name(getattr(cell, kind) for cell in cells) for kind in ("defense", "attack")}
        facts = [_facts(cell) for cell in cells]
        self._differ = [name for name in (facts[0] if facts else ()) if len({each[name] for each in facts}) > 1]

    def of(self, cell: Cell) -> str:
        """The title of one of them."""
        named = (self._named("defense", cell.defense), self._named("attack", cell.attack), cell.threat.access)
        facts = _facts(cell)
        return ", ".join([" / ".join(named), *(f"{name} {facts[name]}" for name in self._differ if facts[name])])

    def _named(self, kind: str, ref: PartRef) -> str:
        return format_ref(ref) if ref.name in self._full[kind] else ref.name


def _of_one_name(refs: Iterable[PartRef]) -> set[str]:
    """Names that several of these have, with other parameters."""
    texts: dict[str, set[str]] = {}
    for ref in refs:
        texts.setdefault(ref.name, set()).add(format_ref(ref))
    return {name for name, found in texts.items() if len(found) > 1}


def _facts(cell: Cell) -> dict[str, str]:
    """What cells may differ in besides defense, attack and access."""
    params = dict(cell.dataset.params)
    fold = str(params.pop("fold", ""))
    labels = cell_labels(cell)
    told = {"data": format_ref(PartRef(cell.dataset.name, params)), "fold": fold}
    shown = ("partition", "model", "strategy", "train_seed", "norm", "eps", "goal", "finding", "client", "seed")
    return told | {name.replace("_", "-"): labels[name] for name in shown}
