"""The finished chunks of a cell, and the figures that can be told while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from robustbench_med.outcome import Outcome
from robustbench_med.running.pieces import Chunk


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
        self._safe += float(outcome.attacked.safe(outcome.labels).float().mean(0).sum())

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
