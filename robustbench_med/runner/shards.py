"""A cell in shards: runs of chunks that several workers measure, and what the run knows of them.

A shard is a job that leaves checkpoints only. Once all are there, the cell is run as one that was interrupted after its
last chunk, which gives the record of an undivided run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.runner.checkpoints import Chunk
from robustbench_med.runner.messages import Job, Started


@dataclass(frozen=True)
class Share:
    """A client's part of a job.

    Attributes:
        start, stop: its images, by their places in the client's split.
        controls: whether the client's controls are its work too.
    """

    start: int
    stop: int
    controls: bool

    @property
    def empty(self) -> bool:
        """There is nothing to do."""
        return self.start >= self.stop and not self.controls


def shares(images: Sequence[int], size: int, shard: tuple[int, int] | None, controls: bool) -> list[Share]:
    """What a job measures of each client.

    Args:
        images: of each client.
        size: of a chunk, the same for all shards of a cell.
        shard: number of the shard and of how many; None for the whole cell.
        controls: whether the cell has any.
    """
    if shard is None:
        return [Share(0, number, controls) for number in images]
    number, of = shard
    units: list[tuple[int, int | None]] = []
    for client, count in enumerate(images):
        units += [(client, start) for start in range(0, count, size)]
        units += [(client, None)] if controls else []
    own = units[len(units) * number // of : len(units) * (number + 1) // of]
    found = []
    for client, count in enumerate(images):
        starts = [start for each, start in own if each == client and start is not None]
        first, last = (starts[0], min(starts[-1] + size, count)) if starts else (0, 0)
        found.append(Share(first, last, (client, None) in own))
    return found


def pieces(job: Job, count: int) -> list[Job]:
    """The shards of a cell, and last the cell itself; a cell alone where it is not divided."""
    return [*(replace(job, shard=(number, count)) for number in range(count) if count > 1), job]


def marker(shard: tuple[int, int]) -> str:
    """The name of the checkpoint that says that a shard is complete."""
    return f"shard-{shard[0]}-of-{shard[1]}"


class ShardProgress:
    """What the shards of one cell have done, as the progress of one cell."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, int], int] = {}
        self._robust: dict[tuple[int, int], float] = {}

    def started(self, shard: tuple[int, int], message: Started) -> int:
        """A shard starts, or again after its worker was lost; how many of its images are news."""
        news = max(0, message.done - self._done.get(shard, 0))
        return self.advanced(shard, news, message.robust)

    def advanced(self, shard: tuple[int, int], images: int, robust: float | None) -> int:
        """A shard has measured more images."""
        self._done[shard] = self._done.get(shard, 0) + images
        if robust is not None:
            self._robust[shard] = robust
        return images

    @property
    def robust(self) -> float | None:
        """Robust accuracy so far."""
        images = sum(self._done[shard] for shard in self._robust)
        total = math.fsum(self._done[shard] * share for shard, share in self._robust.items())
        return total / images if images else None


@dataclass
class ClientPart:
    """A client's part of a cell.

    Attributes:
        number: of the client in the cell.
        client: its name.
        pipeline: its deployed system.
        split: its images.
        rows: their rows in the test split, int64 (N,).
        finished: chunks that an earlier attempt has finished, with their places in the split.
        share: what of them is measured here.
    """

    number: int
    client: str
    pipeline: Pipeline
    split: Split
    rows: torch.Tensor
    finished: list[tuple[slice, Chunk]]
    share: Share
