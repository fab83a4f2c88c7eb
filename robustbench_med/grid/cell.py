"""One thing to measure, or to skip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from robustbench_med.attacks.rung import LeftOut, Rung
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.resolved import key_of
from robustbench_med.grid.filters import CELL_LABELS
from robustbench_med.grid.requests import Role, attack_label
from robustbench_med.interfaces.tasks import Task
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.references import PartRef, format_eps, format_ref


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a defense on a data set against an attack under a threat model."""

    role: Role
    trained: TrainedRef
    #: As named; of a ladder, `ladder` with its preset.
    attack: PartRef
    #: What runs: one rung, or those of a ladder that apply to the defense.
    rungs: tuple[Rung, ...]
    #: Rungs that do not apply to the defense, and why.
    left_out: tuple[LeftOut, ...]
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

    @property
    def short_title(self) -> str:
        """Names of defense, attack and access, for progress bars."""
        return f"{self.defense.name} / {self.attack.name} / {self.threat.access}"

    @property
    def transfers(self) -> bool:
        """A rung attacks the surrogate."""
        return any(rung.access == "transfer" for rung in self.rungs)

    @property
    def inside(self) -> bool:
        """A rung attacks the classifiers of other clients."""
        return any(rung.access == "insider" for rung in self.rungs)

    def shown_classes(self, classes: int, task: Task) -> int:
        """How many classes an attack is shown: two for a goal of two sides, one more than there are findings."""
        if task == "multi-label":
            return 2 if self.threat.finding else classes + 1
        return classes if self.threat.goal == "untargeted" else 2

    @property
    def only_rung(self) -> Rung:
        """The rung of a cell that is no ladder, whether it applies or not."""
        (rung,) = (*self.rungs, *(left_out.rung for left_out in self.left_out if left_out.rung))
        return rung

    def id(self, dataset_digest: str, weights_digest: str, surrogate_digest: str = "") -> str:
        """Hash of everything that decides the numbers."""
        # Parts of it are the same for many cells, and ids of thousands are listed.
        facts: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        facts |= {"trained": self.trained.facts, "surrogate": self.surrogate.facts if self.surrogate else None}
        facts |= {"attack": asdict(self.attack), "budget": asdict(self.budget), "threat": self.threat.facts}
        facts["rungs"] = [rung.ref.facts for rung in self.rungs]
        # The reason decides nothing, and may name folders of this machine.
        facts["left_out"] = [left_out.name for left_out in self.left_out]
        return key_of([facts, dataset_digest, weights_digest, surrogate_digest])

    def without(self, access: str, reason: str) -> Cell | Skip:
        """The cell without the rungs of this ``access``."""
        rungs = tuple(rung for rung in self.rungs if rung.access != access)
        gone = tuple(LeftOut(rung, reason) for rung in self.rungs if rung.access == access)
        cell = replace(self, rungs=rungs, left_out=(*self.left_out, *gone))
        return cell if rungs else Skip(cell, reason)


@dataclass(frozen=True)
class Skip:
    """A cell that will not run, and why."""

    cell: Cell
    reason: str


def cell_of(planned: Cell | Skip) -> Cell:
    """The cell, whether it will run or not."""
    return planned.cell if isinstance(planned, Skip) else planned


#: Labels that every table of cells shows.
ALWAYS = ("defense", "attack", "access")


def cell_labels(cell: Cell) -> dict[str, str]:
    """The cell's labels, by the keys of `robustbench_med.grid.filters.CELL_LABELS`; "" where nothing was requested.

    A ladder is called ``ladder:quick``, followed by the attack where one was named; several clients are joined by
    ``+``, and none is ``all``.
    """
    trained, threat = cell.trained, cell.threat
    return {
        "dataset": format_ref(trained.dataset),
        "partition": _format(trained.partition),
        "model": _format(trained.model),
        "strategy": _format(trained.strategy),
        "train_seed": "" if trained.seed is None else str(trained.seed),
        "defense": format_ref(trained.defense),
        "attack": attack_label(cell.attack),
        "access": threat.access,
        "norm": threat.norm,
        "eps": format_eps(threat.eps),
        "goal": threat.goal,
        "finding": threat.finding,
        "client": "+".join(cell.clients) or "all",
        "seed": str(cell.seed),
        "role": cell.role,
    }


def axes(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The keys along which these `cell_labels` differ, in the order of `robustbench_med.grid.filters.CELL_LABELS`."""
    return tuple(key for key in CELL_LABELS if len({row[key] for row in rows}) > 1)


def _format(ref: PartRef | None) -> str:
    return "" if ref is None else format_ref(ref)
