"""Runs jobs on workers that may be lost: assigns them, stops what takes too long, repeats what was lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from robustbench_med.runner.messages import Checkpoint, Done, Job, Message

#: How often a cell may lose its worker before it fails.
ATTEMPTS = 3
#: Seconds a new worker may take to start, on top of the time limit.
START = 180.0
#: Seconds between two look-ups of cells that another run has locked.
POLL = 0.5


class WorkerLost(Exception):
    """A worker died; the message names the cause."""


class WorkerPool(Protocol):
    """Some workers, known by number."""

    size: int

    def send(self, worker: int, job: Job) -> None:
        """Send a job to an idle worker; a worker that does not exist is started."""

    def wait(self, workers: list[int], seconds: float) -> int | None:
        """A worker with a message, or one that has died; None if there is none within that time."""

    def receive(self, worker: int) -> Message:
        """The next message of a worker.

        Raises:
            WorkerLost: it has died.
        """

    def stop(self, worker: int) -> None:
        """End a worker, whatever it is doing."""

    def recycle(self, worker: int) -> bool:
        """End a worker between two jobs if it uses too much memory; True if it was ended."""


@dataclass
class _Assignment:
    """A job at a worker, its attempt, and when it is stopped on the monotonic clock."""

    job: Job
    attempt: int
    deadline: float


def dispatch(pool: WorkerPool, jobs: Iterator[Job | None], limit: float | None) -> Iterator[tuple[Job, Message]]:
    """The messages of all jobs.

    Args:
        pool: the workers.
        jobs: see `robustbench_med.runner.executors.Executor`.
        limit: seconds that a job may take.
    """
    dispatcher = _Dispatcher(pool, jobs, limit)
    try:
        yield from dispatcher.run()
    finally:
        for worker in range(pool.size):
            pool.stop(worker)


class _Dispatcher:
    def __init__(self, pool: WorkerPool, jobs: Iterator[Job | None], limit: float | None) -> None:
        self.pool, self.limit = pool, limit
        self.jobs: Iterator[Job | None] | None = jobs  # None once all are assigned
        self.assigned: dict[int, _Assignment] = {}
        self.lost: deque[tuple[Job, int]] = deque()  # jobs to repeat, and their next attempt
        self.started: set[int] = set()  # workers that have sent a message
        self.waiting = False  # all jobs that are left are locked by other runs

    def run(self) -> Iterator[tuple[Job, Message]]:
        """The messages of all jobs."""
        while True:
            self._assign()
            if not self.assigned:
                if self.jobs is None and not self.lost:
                    return
                time.sleep(POLL)
                continue
            left = min(assignment.deadline for assignment in self.assigned.values()) - time.monotonic()
            worker = self.pool.wait(list(self.assigned), max(0.0, min(left, POLL if self.waiting else 5.0)))
            if worker is not None:
                yield from self._receive(worker)
            yield from self._stop_overdue()

    def _assign(self) -> None:
        """Send jobs to idle workers, as far as there are any."""
        self.waiting = False
        for worker in range(self.pool.size):
            if worker in self.assigned:
                continue
            found = self._next_job()
            if found is None:
                return
            job, attempt = found
            self.pool.send(worker, job)
            self.assigned[worker] = _Assignment(job, attempt, self._deadline(0 if worker in self.started else START))

    def _next_job(self) -> tuple[Job, int] | None:
        """A job and its attempt; None if there is none (at the moment)."""
        if self.lost:
            return self.lost.popleft()
        if self.jobs is None:
            return None
        try:
            job = next(self.jobs)
        except StopIteration:
            self.jobs = None
            return None
        self.waiting = job is None
        return None if job is None else (job, 1)

    def _deadline(self, extra: float = 0.0) -> float:
        return float("inf") if self.limit is None else time.monotonic() + self.limit + extra

    def _receive(self, worker: int) -> Iterator[tuple[Job, Message]]:
        """The worker's next message."""
        assignment = self.assigned[worker]
        try:
            message = self.pool.receive(worker)
        except WorkerLost as lost:
            self._forget(worker)
            if assignment.attempt < ATTEMPTS:
                self.lost.append((assignment.job, assignment.attempt + 1))
            else:
                reason = f"WorkerLost: the process that ran the cell died {ATTEMPTS} times ({lost})"
                yield assignment.job, Done(status="failed", reason=reason, keep=True)
            return
        if worker not in self.started:
            self.started.add(worker)
            assignment.deadline = self._deadline()
        if isinstance(message, Checkpoint):
            known = {**assignment.job.checkpoints, message.name: message.data}
            assignment.job = replace(assignment.job, checkpoints=known)
        if isinstance(message, Done):
            del self.assigned[worker]
            if self.pool.recycle(worker):
                self.started.discard(worker)
        yield assignment.job, message

    def _stop_overdue(self) -> Iterator[tuple[Job, Message]]:
        """Stop the jobs that have reached the time limit; each of them fails."""
        for worker, assignment in list(self.assigned.items()):
            if time.monotonic() >= assignment.deadline:
                self.pool.stop(worker)
                self._forget(worker)
                reason = f"TimeLimit: stopped after {self.limit:g} s (--time-limit)"
                yield assignment.job, Done(status="failed", reason=reason, keep=True)

    def _forget(self, worker: int) -> None:
        del self.assigned[worker]
        self.started.discard(worker)
