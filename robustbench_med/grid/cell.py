"""One thing to measure, or to skip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.resolved import key_of
from robustbench_med.grid.filters import CELL_LABELS
from robustbench_med.grid.ladder import Rung
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.references import PartRef, format_eps, format_ref

Role = Literal["claim", "probe", "cell"]


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a defense on a data set against an attack under a threat model."""

    role: Role
    trained: TrainedRef
    #: As named; of a ladder, `ladder` with its preset.
    attack: PartRef
    #: What is really run: one rung, or those of a ladder that the defense admits.
    rungs: tuple[Rung, ...]
    #: Rungs of the ladder that the defense does not admit, and why.
    left_out: tuple[tuple[str, str], ...]
    threat: ThreatModel
    budget: Budget
    surrogate: TrainedRef | None
    stand_in: str
    clients: tuple[str, ...]
    limit: int | None
    seed: int
    eot: int
    draws: int
    #: Facts that enter the id besides the fields above: full parameters and revisions.
    facts: str

    @property
    def dataset(self) -> PartRef:
        """The data set."""
        return self.trained.dataset

    @property
    def defense(self) -> PartRef:
        """The defense."""
        return self.trained.defense

    def id(self, dataset_digest: str, weights_digest: str, surrogate_digest: str = "") -> str:
        """Hash of everything that decides the numbers."""
        # Why a rung is left out decides nothing, and may name folders of this machine.
        facts = asdict(self) | {"left_out": [name for name, _ in self.left_out]}
        return key_of([facts, dataset_digest, weights_digest, surrogate_digest])

    def without(self, access: str, reason: str) -> Cell | Skip:
        """The cell less one kind of rung."""
        rungs = tuple(rung for rung in self.rungs if rung.access != access)
        gone = tuple((label(rung), reason) for rung in self.rungs if rung.access == access)
        cell = replace(self, rungs=rungs, left_out=(*self.left_out, *gone))
        return cell if rungs else Skip(cell, reason)


def label(rung: Rung) -> str:
    """A rung on one line: ``gate apgd:steps=10 joint:1``."""
    return f"{rung.access} {format_ref(rung.attack)} {rung.evasion if rung.access == 'gate' else ''}".strip()


@dataclass(frozen=True)
class Skip:
    """A cell that will not run, and why."""

    cell: Cell
    reason: str


def cell_of(planned: Cell | Skip) -> Cell:
    """The cell, whether it will run or not."""
    return planned.cell if isinstance(planned, Skip) else planned


#: What is in the title of every cell.
ALWAYS = ("defense", "attack", "access")


def cell_labels(cell: Cell) -> dict[str, str]:
    """The cell's names, by the keys of `robustbench_med.grid.filters.CELL_LABELS`; "" where nothing was asked for.

    A ladder is called ``ladder:quick``, with the attack behind it where one was named; several clients are joined by
    ``+``, and none is ``all``.
    """
    trained, threat = cell.trained, cell.threat
    return {
        "dataset": format_ref(trained.dataset),
        "partition": _spelled(trained.partition),
        "model": _spelled(trained.model),
        "strategy": _spelled(trained.strategy),
        "train_seed": "" if trained.seed is None else str(trained.seed),
        "defense": format_ref(trained.defense),
        "attack": _attack(cell.attack),
        "access": threat.access,
        "norm": threat.norm,
        "eps": format_eps(threat.eps),
        "goal": threat.goal,
        "client": "+".join(cell.clients) or "all",
        "seed": str(cell.seed),
        "role": cell.role,
    }


def axes(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The keys along which these `cell_labels` differ, in the order of `robustbench_med.grid.filters.CELL_LABELS`."""
    return tuple(key for key in CELL_LABELS if len({row[key] for row in rows}) > 1)


def telling(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The keys that tell these cells apart besides those that are in every `title`."""
    return tuple(key for key in axes([cell_labels(cell) for cell in cells]) if key not in ALWAYS)


def title(cell: Cell, more: Sequence[str] = ()) -> str:
    """A short name: defense, attack and access, then the facets ``more``, as `telling` finds them."""
    names = cell_labels(cell)
    return " / ".join(_titled(key, names[key]) for key in (*ALWAYS, *more) if names[key])


def _titled(key: str, text: str) -> str:
    """Numbers alone say nothing."""
    return f"{key.replace('_', ' ')} {text}" if key in ("eps", "seed", "train_seed") else text


def _spelled(ref: PartRef | None) -> str:
    return "" if ref is None else format_ref(ref)


def _attack(ref: PartRef) -> str:
    if ref.name != "ladder":
        return format_ref(ref)
    return " ".join(filter(None, [f"ladder:{ref.params['preset']}", str(ref.params.get("attack", ""))]))
