"""Jobs for workers that may be lost: hand them out, stop what takes too long, run again what was lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from robustbench_med.runner.messages import Checkpoint, Done, Job, Message

#: How often a cell may lose its worker before it counts as failed.
ATTEMPTS = 3
#: Seconds a new worker may take to start, on top of the time limit.
START = 180.0
#: Seconds until another run that holds the remaining cells is asked again.
PATIENCE = 0.5


class Lost(Exception):
    """A worker died; the message says of what."""


class WorkerPool(Protocol):
    """Some workers, known by number."""

    size: int

    def send(self, worker: int, job: Job) -> None:
        """Hand a job to a worker that has none; a worker that is not there is started."""

    def wait(self, workers: list[int], seconds: float) -> int | None:
        """One of the workers that has something to say, or has died; None if none has within that time."""

    def receive(self, worker: int) -> Message:
        """What it says.

        Raises:
            Lost: it has died.
        """

    def stop(self, worker: int) -> None:
        """End a worker, whatever it is doing."""

    def rest(self, worker: int) -> bool:
        """A worker has finished its job; one that has grown too large may be ended. Whether it was."""


@dataclass
class _Turn:
    job: Job
    attempt: int
    deadline: float


def dispatch(crew: WorkerPool, jobs: Iterator[Job | None], limit: float | None) -> Iterator[tuple[Job, Message]]:
    """The messages of all jobs.

    Args:
        crew: the workers.
        jobs: see `robustbench_med.runner.executors.Executor`.
        limit: seconds that a job may take, on a clock that nobody sets back.
    """
    turns: dict[int, _Turn] = {}
    again: deque[tuple[Job, int]] = deque()
    warm: set[int] = set()
    source: Iterator[Job | None] | None = jobs
    try:
        while True:
            waiting = False
            for worker in [worker for worker in range(crew.size) if worker not in turns]:
                if again:
                    job, attempt = again.popleft()
                elif source is None or waiting:
                    break
                else:
                    try:
                        found = next(source)
                    except StopIteration:
                        source = None
                        break
                    if found is None:
                        waiting = True
                        break
                    job, attempt = found, 1
                crew.send(worker, job)
                allowed = float("inf") if limit is None else limit + (0 if worker in warm else START)
                turns[worker] = _Turn(job, attempt, time.monotonic() + allowed)
            if not turns:
                if source is None and not again:
                    return
                time.sleep(PATIENCE)
                continue
            soon = min(turn.deadline for turn in turns.values()) - time.monotonic()
            spoke = crew.wait(list(turns), max(0.0, min(soon, PATIENCE if waiting else 5.0)))
            if spoke is not None:
                turn = turns[spoke]
                try:
                    message = crew.receive(spoke)
                except Lost as lost:
                    del turns[spoke]
                    warm.discard(spoke)
                    if turn.attempt < ATTEMPTS:
                        again.append((turn.job, turn.attempt + 1))
                    else:
                        reason = f"WorkerLost: the process that ran the cell died {ATTEMPTS} times ({lost})"
                        yield turn.job, Done(status="failed", reason=reason, keep=True)
                    continue
                if spoke not in warm:
                    warm.add(spoke)
                    turn.deadline = float("inf") if limit is None else time.monotonic() + limit
                if isinstance(message, Checkpoint):
                    turn.job = replace(turn.job, pieces={**turn.job.pieces, message.name: message.data})
                if isinstance(message, Done):
                    del turns[spoke]
                    if crew.rest(spoke):
                        warm.discard(spoke)
                yield turn.job, message
            for worker, turn in list(turns.items()):
                if time.monotonic() >= turn.deadline:
                    crew.stop(worker)
                    del turns[worker]
                    warm.discard(worker)
                    reason = f"TimeLimit: stopped after {limit:g} s (--time-limit)"
                    yield turn.job, Done(status="failed", reason=reason, keep=True)
    finally:
        for worker in range(crew.size):
            crew.stop(worker)
