"""The messages between a run and its workers, and how jobs are sent to other processes."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_med.attacks.rung import Rung, resolve_rung
from robustbench_med.grid.cell import Cell
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.tracebacks import PluginTraceback
from robustbench_med.records.record import Record


@dataclass(frozen=True)
class Job:
    """A cell to be run.

    Attributes:
        cell: what to measure.
        cell_id: its id; a worker that computes another one holds other data or weights.
        weights: folder of the defense's weights.
        surrogate: folder of the surrogate's weights, where the cell has one.
        checkpoints: what an earlier attempt has finished, by name.
        shard: number of the shard of the cell that the job is, and of how many; None for the whole cell.
    """

    cell: Cell
    cell_id: str
    weights: Path
    surrogate: Path | None = None
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)
    shard: tuple[int, int] | None = None


@dataclass(frozen=True)
class Started:
    """The cell has ``images`` images; of the job's ``done`` are done already, with a robust accuracy of ``robust``."""

    images: int
    done: int = 0
    robust: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A finished part of the cell.

    Attributes:
        name: of the part within the cell.
        data: its results, as `robustbench_med.runner.checkpoints` reads them.
        images: images in this part; 0 for the controls of the diagnostics.
        robust: robust accuracy so far.
    """

    name: str
    data: bytes
    images: int
    robust: float | None


@dataclass(frozen=True)
class Done:
    """The job is over: a cell, or without a record a shard of one.

    Attributes:
        record: of a cell that was measured.
        samples: its outcome, as `robustbench_med.runner.checkpoints` reads it.
        status, reason: of any other.
        keep: its checkpoints stay valid: it was stopped before its end.
        traceback: the plugin that broke, if one did.
    """

    record: Record | None = None
    samples: bytes | None = None
    status: str = "ok"
    reason: str = ""
    keep: bool = False
    traceback: PluginTraceback | None = None


Message = Started | Checkpoint | Done


def pack(job: Job) -> bytes:
    """A job as bytes for another process, which builds the attacks anew: they need not be picklable."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(job)
    return buffer.getvalue()


def unpack(data: bytes, registry: Registry) -> Job:
    """The job that was packed, its attacks built from the plugins of ``registry``."""
    job: Job = _Unpickler(io.BytesIO(data), registry).load()
    return job


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return (obj.ref, obj.eot) if isinstance(obj, Rung) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, registry: Registry) -> None:
        super().__init__(file)
        self.registry = registry

    def persistent_load(self, pid: Any) -> Rung:
        return resolve_rung(self.registry, *pid)
