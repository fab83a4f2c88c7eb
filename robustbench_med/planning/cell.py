"""One thing to measure, or to skip."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from robustbench_med.defenses.blueprint import key_of
from robustbench_med.defenses.trained import TrainedRef
from robustbench_med.planning.ladder import Rung
from robustbench_med.references import PartRef
from robustbench_med.spelling import spelled_ref
from robustbench_med.threat import Budget, ThreatModel

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
    return f"{rung.access} {spelled_ref(rung.attack)} {rung.evasion if rung.access == 'gate' else ''}".strip()


@dataclass(frozen=True)
class Skip:
    """A cell that will not run, and why."""

    cell: Cell
    reason: str


def cell_of(planned: Cell | Skip) -> Cell:
    """The cell, whether it will run or not."""
    return planned.cell if isinstance(planned, Skip) else planned
