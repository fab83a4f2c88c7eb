"""Cells one after another in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

from robustbench_med.runner.evaluator import Evaluator
from robustbench_med.runner.messages import Job, Message

#: Seconds between two look-ups of cells that another run has locked.
POLL = 0.5


class LocalExecutor:
    """Runs jobs in this process.

    Args:
        evaluator: runs them.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def run(self, jobs: Iterator[Job | None]) -> Iterator[tuple[Job, Message]]:
        """See `Executor`."""
        for job in jobs:
            if job is None:
                time.sleep(POLL)
                continue
            for message in self.evaluator.run(job):
                yield job, message
