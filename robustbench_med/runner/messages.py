"""What goes back and forth between a run and whoever runs its cells; it can be sent to another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_med.grid.cell import Cell
from robustbench_med.plugins.tracebacks import PluginTraceback
from robustbench_med.records.record import Record


@dataclass(frozen=True)
class Job:
    """A cell to be run.

    Attributes:
        cell: what to measure.
        cell_id: its id; whoever runs it must come to the same one, or holds other data or weights.
        weights: folder of the defense's weights.
        surrogate: folder of the surrogate's weights, where the cell has one.
        pieces: what an earlier attempt has finished, by name.
    """

    cell: Cell
    cell_id: str
    weights: Path
    surrogate: Path | None = None
    pieces: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Begun:
    """The cell has ``images`` images, of which ``done`` are done already, with a robust accuracy of ``robust``."""

    images: int
    done: int = 0
    robust: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A part of the cell that is finished and need not be done again.

    Attributes:
        name: of the part within the cell.
        data: what was found, as `robustbench_med.runner.checkpoints` reads it.
        images: that are done with this piece; 0 for one that is no chunk of images.
        robust: robust accuracy so far.
    """

    name: str
    data: bytes
    images: int
    robust: float | None


@dataclass(frozen=True)
class Done:
    """The cell is over.

    Attributes:
        record: of a cell that was measured.
        samples: its outcome, as `robustbench_med.runner.checkpoints` reads it.
        status, reason: of any other.
        keep: its pieces are still good: it was stopped, not refuted.
        traceback: the plugin that broke, if one did.
    """

    record: Record | None = None
    samples: bytes | None = None
    status: str = "ok"
    reason: str = ""
    keep: bool = False
    traceback: PluginTraceback | None = None


Message = Begun | Checkpoint | Done


def title(cell: Cell) -> str:
    """What a progress view says."""
    return f"{cell.defense.name} / {cell.attack.name} / {cell.threat.access}"
