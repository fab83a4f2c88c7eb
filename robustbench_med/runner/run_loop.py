"""The course of a run: which cells are done, who works on which, and what is written when.

Only the run writes to its folder::

    <out>/
        records.jsonl            a line for each cell that is over
        samples/<cell>.parquet   its images
        partial/<cell>/          what is finished of a cell that is not over
        partial/<cell>.lock      held by the run that is measuring the cell
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from robustbench_med.errors import BadConfig
from robustbench_med.grid.cell import Skip
from robustbench_med.grid.config import RunConfig
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Grid
from robustbench_med.records import samples
from robustbench_med.records.record import Record, append, parse, read
from robustbench_med.runner import checkpoints
from robustbench_med.runner.evaluator import Evaluator
from robustbench_med.runner.executors import Executor
from robustbench_med.runner.messages import Begun, Checkpoint, Done, Job, Message, title


class RunLoop:
    """The cells of one run on their way to the records.

    Args:
        config: where to write, and what counts as done.
        evaluator: describes cells that are not measured.
        board: is told what becomes of each cell.
    """

    def __init__(self, config: RunConfig, evaluator: Evaluator, board: Grid) -> None:
        self.config, self.evaluator, self.board = config, evaluator, board
        self.records = config.out / "records.jsonl"
        self.ledger = RecordIndex(self.records)
        self.unfinished = checkpoints.Unfinished(config.out / "partial", evaluator.stamp)
        self.locks: dict[str, FileLock] = {}
        self.resumed: set[str] = set()
        self.measured: set[str] = set()
        self.ready: deque[Record] = deque()

    def run(self, jobs: Iterable[Job | Skip], executor: Executor) -> Iterator[Record]:
        """Yield a record per cell, each once it is on disk.

        Raises:
            UsageError: the folder cannot be written to.
        """
        try:
            with closing(executor.run(self._open(jobs))) as messages:  # type: ignore[type-var]
                for job, message in messages:
                    self._hear(job, message)
                    while self.ready:
                        yield self.ready.popleft()
            while self.ready:
                yield self.ready.popleft()
        finally:
            for cell_id in list(self.locks):
                self._let_go(cell_id)
            self.unfinished.tidy()

    # --- cells that begin ---

    def _open(self, jobs: Iterable[Job | Skip]) -> Iterator[Job | None]:
        """The cells to measure, in their order; those that another run holds come last. None: ask again later."""
        held: deque[Job] = deque()
        for job in jobs:
            if isinstance(job, Skip):
                self._end(self.evaluator.record(job.cell, status="skipped", reason=job.reason), title(job.cell))
            elif self._settled(job):
                continue
            elif self._take(job):
                yield from self._unless_settled(job)
            else:
                held.append(job)
        while held:
            for _ in range(len(held)):
                job = held.popleft()
                if self._take(job):
                    yield from self._unless_settled(job)
                else:
                    held.append(job)
            if held:
                yield None

    def _unless_settled(self, job: Job) -> Iterator[Job]:
        """The job with what is finished of it, unless another run has measured the cell a moment ago."""
        if self._settled(job):
            self._let_go(job.cell_id)
            return
        found = self.unfinished.load(job.cell_id)
        self.resumed |= {job.cell_id} if found else set()
        yield Job(job.cell, job.cell_id, job.weights, job.surrogate, found)

    def _settled(self, job: Job) -> bool:
        """Whether the cell has a record that serves; it is passed on then."""
        record = self.ledger.last(job.cell_id)
        if record is None or not serves(record, self.config.diagnostics, self.evaluator.registry):
            return False
        if self.config.again and job.cell_id not in self.measured:
            return False
        self.unfinished.drop(job.cell_id)  # the run that wrote the record may have been killed before it tidied up
        self.board.finished(job.cell_id, title(job.cell), "done", None, False)
        self.ready.append(record)
        return True

    def _take(self, job: Job) -> bool:
        """Whether the cell is ours now."""
        lock = self.unfinished.lock(job.cell_id)
        if lock is not None:
            self.locks[job.cell_id] = lock
        return lock is not None

    def _let_go(self, cell_id: str) -> None:
        self.unfinished.unlock(self.locks.pop(cell_id))

    # --- cells at work ---

    def _hear(self, job: Job, message: Message) -> None:
        cell_id, name = job.cell_id, title(job.cell)
        if isinstance(message, Begun):
            self.board.started(cell_id, name, message.images)
            if message.done:
                self.board.advanced(cell_id, message.done, message.robust)
        elif isinstance(message, Checkpoint):
            self.unfinished.save(cell_id, message.name, message.data)
            if message.images:
                self.board.advanced(cell_id, message.images, message.robust)
        else:
            self._over(job, message)

    def _over(self, job: Job, done: Done) -> None:
        record = done.record or self.evaluator.record(job.cell, status=done.status, reason=done.reason)
        if done.traceback is not None:
            self.evaluator.tracebacks[job.cell_id] = done.traceback
        if done.samples is not None:
            try:
                samples.write(
                    checkpoints.decode(done.samples).outcome, self.config.out / "samples" / f"{job.cell_id}.parquet"
                )
            except OSError as error:
                raise checkpoints.unwritable(self.config.out, error) from None
        self._end(record, title(job.cell))
        self.measured.add(job.cell_id)
        if not done.keep:
            self.unfinished.drop(job.cell_id)
        self._let_go(job.cell_id)

    def _end(self, record: Record, name: str) -> None:
        """Write the record of a cell that is over, unless it says once more what the last one says."""
        before = self.ledger.last(record.cell_id)
        if record.status != "skipped" or before is None or (before.status, before.reason) != ("skipped", record.reason):
            try:
                append(self.records, record)
            except OSError as error:
                raise checkpoints.unwritable(self.config.out, error) from None
        resumed = record.cell_id in self.resumed
        self.board.finished(record.cell_id, name, record.status, record.reason, resumed)
        self.ready.append(record)


#: Diagnostics by how much they look at.
LEVELS = ("off", "cheap", "full")


def serves(record: Record, level: str, registry: Registry) -> bool:
    """Whether a record answers a request for diagnostics of ``level``: it is ok, and looked at no less.

    What was measured with a plugin file that has been edited since does not; installed plugins have revisions for that.
    """
    enough = LEVELS[LEVELS.index(level) :]
    attacks = {record.attack.distribution, *(rung.distribution for rung in record.attack.rungs)}
    made_with = {record.dataset.distribution, record.defense.distribution, *attacks}
    now = {f"{entry.distribution} {entry.version}" for entry in registry.entries()}
    edited = any(" 0+" in origin and origin not in now for origin in made_with)
    return record.status == "ok" and record.diagnostics.level in enough and not edited


class RecordIndex:
    """The last record of each cell; what others append is taken in at each look.

    Args:
        path: ``records.jsonl``; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        self._last: dict[str, Record] = {}
        if path.is_file():
            self._size = path.stat().st_size
            self._last = {record.cell_id: record for record in read(path)}

    def last(self, cell_id: str) -> Record | None:
        """The cell's last record, if there is one."""
        self._catch_up()
        return self._last.get(cell_id)

    def _catch_up(self) -> None:
        """Read only what was added: re-reading thousands of records before each cell would take longer than cells."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return
        if size < self._size:  # somebody has rewritten the file
            self._size = 0
        if size == self._size:
            return
        with self.path.open("rb") as file:
            file.seek(self._size)
            added = file.read()
        whole = added.rfind(b"\n") + 1
        self._size += whole
        for line in added[:whole].splitlines():
            try:
                record = parse(line)
            except (ValueError, BadConfig):
                continue  # whoever reads the whole file says what is wrong with it
            self._last[record.cell_id] = record
