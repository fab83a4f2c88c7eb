"""Finished parts of cells: chunks of images and controls, as bytes, and kept on disk until their cell is over."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from robustbench_med.attacks.diagnostics import Controls
from robustbench_med.errors import UsageError
from robustbench_med.files import checksummed
from robustbench_med.interfaces.results import Outcome, Predictions, RungResult


@dataclass(frozen=True)
class Chunk:
    """A chunk of images: what was found, and the seconds that took."""

    outcome: Outcome
    seconds: float = 0.0


def encode(chunk: Chunk) -> bytes:
    """A chunk as bytes."""
    outcome = chunk.outcome
    tensors: dict[str, Tensor] = {"labels": outcome.labels, "distances": outcome.distances, "index": outcome.index}
    for name, verdicts in (("clean", outcome.clean), ("attacked", outcome.attacked)):
        tensors |= {f"{name}.{field.name}": getattr(verdicts, field.name) for field in fields(Predictions)}
    steps = []
    for number, step in enumerate(outcome.rungs):
        values = {field.name: getattr(step, field.name) for field in fields(RungResult)}
        tensors |= {f"{number}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
        steps.append({name: value for name, value in values.items() if not isinstance(value, Tensor)})
    facts = {
        "sites": outcome.sites, "patients": outcome.patients, "num_classes": outcome.num_classes,
        "lesion_class": outcome.lesion_class, "rungs": steps, "seconds": chunk.seconds,
    }  # fmt: skip
    return checksummed.pack(facts, tensors)


def decode(data: bytes) -> Chunk:
    """The chunk.

    Raises:
        ValueError: this is none.
    """
    facts, tensors = checksummed.unpack(data)
    try:
        climb = []
        for number, step in enumerate(facts["rungs"]):
            prefix = f"{number}."
            own: dict[str, Any] = {
                name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
            }
            climb.append(RungResult(**step, **own))
        sides = {
            name: Predictions(**{field.name: tensors[f"{name}.{field.name}"] for field in fields(Predictions)})
            for name in ("clean", "attacked")
        }
        outcome = Outcome(
            labels=tensors["labels"],
            sites=tuple(facts["sites"]),
            patients=tuple(facts["patients"]),
            clean=sides["clean"],
            attacked=sides["attacked"],
            distances=tensors["distances"],
            num_classes=facts["num_classes"],
            lesion_class=facts["lesion_class"],
            index=tensors["index"],
            rungs=tuple(climb),
        )
        return Chunk(outcome, facts["seconds"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a chunk: {error}") from None


def encode_controls(controls: Controls, seconds: float) -> bytes:
    """Controls, and the seconds they took, as bytes."""
    return checksummed.pack([asdict(controls), seconds], {})


def decode_controls(data: bytes) -> tuple[Controls, float]:
    """The controls, and the seconds they took."""
    (facts, seconds), _ = checksummed.unpack(data)
    again = facts.pop("again")
    again = {name: (n, safe) for name, (n, safe) in again.items()} if again else again
    return Controls(**facts, again=again), seconds


def chunk_name(client: int, part: slice) -> str:
    """The name of a chunk: number of the client in the cell, and which of its images."""
    return f"{client:05d}-{part.start:07d}-{part.stop:07d}"


def controls_name(client: int) -> str:
    """The name of a client's controls."""
    return f"{client:05d}-controls"


def finished(pieces: Mapping[str, bytes], client: int) -> list[tuple[slice, Chunk]]:
    """The chunks of a client that are done, without a gap from its first image on."""
    found: list[tuple[slice, Chunk]] = []
    prefix, at = f"{client:05d}-", 0
    for name in sorted(pieces):
        start, _, stop = name.removeprefix(prefix).partition("-")
        # Another batch size leaves chunks that overlap: what does not go on exactly where we are is done again.
        if name.startswith(prefix) and stop.isdecimal() and int(start) == at:
            found.append((slice(at, int(stop)), decode(pieces[name])))
            at = int(stop)
    return found


class Unfinished:
    """The pieces of cells that are not over, in a folder each.

    Args:
        folder: holds the cells' folders.
        stamp: what must not have changed for a piece to be of use: the code, the hardware.
    """

    def __init__(self, folder: Path, stamp: str) -> None:
        self.folder, self.stamp = folder, stamp

    def load(self, cell_id: str) -> dict[str, bytes]:
        """The pieces of a cell by name; damaged and outdated ones are left out."""
        try:
            paths = sorted((self.folder / cell_id).iterdir())
        except OSError:
            return {}
        found = ((path.name, checksummed.read(path, self.stamp)) for path in paths if not path.name.startswith("."))
        return {name: data for name, data in found if data is not None}

    def save(self, cell_id: str, name: str, data: bytes) -> None:
        """Keep a piece.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            checksummed.write(self.folder / cell_id / name, data, self.stamp, sync=True)
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def drop(self, cell_id: str) -> None:
        """Forget the pieces of a cell."""
        shutil.rmtree(self.folder / cell_id, ignore_errors=True)

    def lock(self, cell_id: str) -> FileLock | None:
        """The lock of a cell, held; None if another run holds it, or came in between.

        Raises:
            UsageError: the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f"{cell_id}.lock")
            lock.acquire(blocking=False)
        except (Timeout, FileNotFoundError):  # another run may have tidied the folder away this very moment
            return None
        except OSError as error:
            raise unwritable(self.folder, error) from None
        return lock

    def unlock(self, lock: FileLock) -> None:
        """Let go of a cell; nobody else can have the lock's file open for long enough to mind that it goes."""
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    def tidy(self) -> None:
        """Remove locks that a killed run has left, and the folder if nothing is in it then."""
        with suppress(OSError, UsageError):
            for path in self.folder.glob("*.lock"):
                if lock := self.lock(path.stem):
                    self.unlock(lock)
            self.folder.rmdir()


def unwritable(folder: Path, error: OSError) -> UsageError:
    """What to say of a folder for results that cannot be written to."""
    reason = error.strerror or os.strerror(error.errno or 0)
    return UsageError(
        f"cannot write to {folder} (--out): {reason}; once it can be written to, the same command goes on from there"
    )


class Tally:
    """The chunks of a cell that are done, by number of the client and first image."""

    def __init__(self, chunks: dict[tuple[int, int], Chunk]) -> None:
        self.chunks: dict[tuple[int, int], Chunk] = {}
        self.images, self._safe = 0, 0.0
        for (client, start), chunk in chunks.items():
            self.add(client, start, chunk)

    def add(self, client: int, start: int, chunk: Chunk) -> None:
        """One more chunk."""
        outcome = chunk.outcome
        self.chunks[client, start] = chunk
        self.images += len(outcome.labels)
        self._safe += float(outcome.attacked.robust(outcome.labels).float().mean(0).sum())

    @property
    def robust(self) -> float | None:
        """Robust accuracy so far."""
        return self._safe / self.images if self.images else None

    def joined(self) -> Chunk:
        """All of it, in the order of clients and of their images, whenever each was measured."""
        ordered = [self.chunks[at] for at in sorted(self.chunks)]
        return Chunk(Outcome.join([each.outcome for each in ordered]), sum(each.seconds for each in ordered))


def timed(chunks: Iterator[tuple[slice, Outcome]]) -> Iterator[tuple[slice, Chunk]]:
    """Each chunk with the seconds it took, those in which nobody asked for it left out."""
    while True:
        start = time.perf_counter()
        found = next(chunks, None)
        if found is None:
            return
        yield found[0], Chunk(found[1], time.perf_counter() - start)
