"""Checkpoints: finished chunks and controls of cells, as bytes, kept on disk until their cell is over."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from robustbench_med.attacks.controls import Controls
from robustbench_med.errors import StoreError
from robustbench_med.files import checksummed
from robustbench_med.interfaces.results import Outcome, Predictions, RungResult

#: Attributes of an outcome that are tensors, and those that are facts; the others have tensors of their own.
TENSORS = ("labels", "distances", "index")
FACTS = ("sites", "patients", "codes", "num_classes", "lesion_class", "task", "classes")
#: Before the name of a measurement of lesions.
LESION = "lesion."
#: Before the name of a figure of a certificate.
CERTIFIED = "certified."


@dataclass(frozen=True)
class Chunk:
    """The results of a chunk of images, and the seconds that they took."""

    outcome: Outcome
    seconds: float = 0.0


def encode(chunk: Chunk) -> bytes:
    """A chunk as bytes."""
    outcome = chunk.outcome
    tensors: dict[str, Tensor] = {name: getattr(outcome, name) for name in TENSORS}
    for name, predictions in {"clean": outcome.clean, "attacked": outcome.attacked, **outcome.also}.items():
        tensors |= {f"{name}.{key}": value for key, value in predictions.tensors.items()}
    tensors |= {f"{LESION}{name}": values for name, values in outcome.lesions.items()}
    tensors |= {f"{CERTIFIED}{name}": values for name, values in outcome.certified.items()}
    rungs = []
    for number, rung in enumerate(outcome.rungs):
        values = {field.name: getattr(rung, field.name) for field in fields(RungResult)}
        tensors |= {f"{number}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
        rungs.append({name: value for name, value in values.items() if not isinstance(value, Tensor)})
    facts = {name: getattr(outcome, name) for name in FACTS}
    return checksummed.pack(facts | {"rungs": rungs, "also": list(outcome.also), "seconds": chunk.seconds}, tensors)


def decode(data: bytes) -> Chunk:
    """The chunk that was encoded.

    Raises:
        ValueError: the bytes are not a chunk.
    """
    facts, tensors = checksummed.unpack(data)
    try:
        own: dict[str, Any] = {name: tensors[name] for name in TENSORS}
        own |= {name: tuple(facts[name]) if isinstance(facts[name], list) else facts[name] for name in FACTS}
        rungs = [RungResult(**rung, **_named(f"{number}.", tensors)) for number, rung in enumerate(facts["rungs"])]
        clean, attacked, *also = (
            Predictions(**_named(f"{name}.", tensors)) for name in ("clean", "attacked", *facts["also"])
        )
        outcome = Outcome(
            **own,
            clean=clean,
            attacked=attacked,
            rungs=tuple(rungs),
            also=dict(zip(facts["also"], also, strict=True)),
            lesions=_named(LESION, tensors),
            certified=_named(CERTIFIED, tensors),
        )
        return Chunk(outcome, facts["seconds"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a chunk: {error}") from None


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The tensors with this prefix, without it."""
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


def encode_controls(controls: Controls, seconds: float) -> bytes:
    """Controls, and the seconds they took, as bytes."""
    return checksummed.pack([asdict(controls), seconds], {})


def decode_controls(data: bytes) -> tuple[Controls, float]:
    """The controls, and the seconds they took."""
    (facts, seconds), _ = checksummed.unpack(data)
    again = facts.pop("again")
    again = {name: (n, robust) for name, (n, robust) in again.items()} if again else again
    return Controls(**facts, again=again), seconds


def chunk_name(client: int, part: slice) -> str:
    """The name of a chunk: number of the client in the cell, and which of its images."""
    return f"{client:05d}-{part.start:07d}-{part.stop:07d}"


def controls_name(client: int) -> str:
    """The name of a client's controls."""
    return f"{client:05d}-controls"


def finished_chunks(checkpoints: Mapping[str, bytes], client: int, first: int, last: int) -> list[tuple[slice, Chunk]]:
    """The chunks of a client that are done, without a gap from the image ``first`` on, up to the image ``last``."""
    found: list[tuple[slice, Chunk]] = []
    prefix, at = f"{client:05d}-", first
    for name in sorted(checkpoints):
        start, _, stop = name.removeprefix(prefix).partition("-")
        # Another batch size leaves chunks that overlap: one that does not start where the last one ends is not used.
        if name.startswith(prefix) and stop.isdecimal() and int(start) == at and int(stop) <= last:
            found.append((slice(at, int(stop)), decode(checkpoints[name])))
            at = int(stop)
    return found


class CheckpointFolder:
    """The checkpoints of cells that are not over, in a folder each.

    Args:
        folder: holds the cells' folders.
        stamp: of the code and the hardware; a checkpoint of another stamp is not used.
    """

    def __init__(self, folder: Path, stamp: str) -> None:
        self.folder, self.stamp = folder, stamp

    def load(self, cell_id: str) -> dict[str, bytes]:
        """The checkpoints of a cell by name; damaged and outdated ones are left out."""
        try:
            paths = sorted((self.folder / cell_id).iterdir())
        except OSError:
            return {}
        found = ((path.name, checksummed.read(path, self.stamp)) for path in paths if not path.name.startswith("."))
        return {name: data for name, data in found if data is not None}

    def save(self, cell_id: str, name: str, data: bytes) -> None:
        """Keep a checkpoint.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            checksummed.write(self.folder / cell_id / name, data, self.stamp, sync=True)
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def drop(self, cell_id: str) -> None:
        """Delete the checkpoints of a cell."""
        shutil.rmtree(self.folder / cell_id, ignore_errors=True)

    def has(self, cell_id: str, names: Iterable[str]) -> bool:
        """Whether a cell has all these checkpoints."""
        return all((self.folder / cell_id / name).exists() for name in names)

    def lock(self, cell_id: str) -> FileLock | None:
        """Lock a cell; None if another run holds the lock, or has just removed the folder.

        Raises:
            StoreError: the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f"{cell_id}.lock")
            lock.acquire(blocking=False)
        except (Timeout, FileNotFoundError):
            return None
        except OSError as error:
            raise unwritable(self.folder, error) from None
        return lock

    def unlock(self, lock: FileLock) -> None:
        """Release the lock of a cell and remove its file; another run that has it open will retry."""
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    def tidy(self) -> None:
        """Remove locks that a killed run has left, and the folder if it is empty then."""
        with suppress(OSError, StoreError):
            for path in self.folder.glob("*.lock"):
                if lock := self.lock(path.stem):
                    self.unlock(lock)
            self.folder.rmdir()


def unwritable(folder: Path, error: OSError) -> StoreError:
    """The error for a folder of results that cannot be written to."""
    reason = error.strerror or os.strerror(error.errno or 0)
    return StoreError(
        f"cannot write to {folder} (--out): {reason}; once it can be written to, the same command resumes the run"
    )


class RunningTotals:
    """What is finished of a cell.

    Args:
        chunks: number of the client, place among its images, and results of each chunk.

    Attributes:
        images: how many are done.
        controls: of the diagnostics, over the clients so far.
        controls_seconds: the time that they took.
    """

    def __init__(self, chunks: Iterable[tuple[int, slice, Chunk]] = ()) -> None:
        self.images, self.controls, self.controls_seconds = 0, Controls(), 0.0
        self._chunks: dict[tuple[int, int], Chunk] = {}
        self._robust = 0.0
        for client, place, chunk in chunks:
            self.add(client, place, chunk)

    def add(self, client: int, place: slice, chunk: Chunk) -> None:
        """Add a chunk of images."""
        outcome = chunk.outcome
        self._chunks[client, place.start] = chunk
        self.images += len(outcome.labels)
        self._robust += float(outcome.attacked.robust(outcome.labels).float().mean(0).sum())

    def add_controls(self, controls: Controls, seconds: float) -> None:
        """Add the controls of a client."""
        self.controls.add(controls)
        self.controls_seconds += seconds

    @property
    def robust_accuracy(self) -> float | None:
        """Robust accuracy so far."""
        return self._robust / self.images if self.images else None

    def joined(self) -> Chunk:
        """All chunks as one, in the order of clients and of their images, whenever each was measured."""
        ordered = [self._chunks[at] for at in sorted(self._chunks)]
        return Chunk(Outcome.join([each.outcome for each in ordered]), math.fsum(each.seconds for each in ordered))


def timed(chunks: Iterator[tuple[slice, Outcome]]) -> Iterator[tuple[slice, Chunk]]:
    """Each chunk with the seconds it took, without the time between chunks."""
    while True:
        start = time.perf_counter()
        found = next(chunks, None)
        if found is None:
            return
        yield found[0], Chunk(found[1], time.perf_counter() - start)
