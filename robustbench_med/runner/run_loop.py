"""The loop of a run: which cells are done already, which are measured, and what is written when.

Only the run writes to its folder::

    <out>/
        records.jsonl            one line for each cell that is over
        samples/<cell>.parquet   its images
        partial/<cell>/          checkpoints of a cell that is not over
        partial/<cell>.lock      held by the run that is measuring the cell, or with the name of a shard
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from robustbench_med.errors import BadConfig, described
from robustbench_med.grid.cell import Skip
from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.titles import Titles
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Grid
from robustbench_med.records import samples
from robustbench_med.records.record import Record, append, parse, read
from robustbench_med.runner import checkpoints
from robustbench_med.runner.evaluator import Evaluator
from robustbench_med.runner.executors import Executor
from robustbench_med.runner.messages import Checkpoint, Done, Job, Message, Started
from robustbench_med.runner.shards import ShardProgress, marker, pieces


class RunLoop:
    """Runs the jobs of one configuration and writes their records.

    Args:
        config: where to write, and which records are reused.
        evaluator: makes the records of cells that are not measured.
        board: shows the progress of each cell.
        titles: what it calls them.
    """

    def __init__(self, config: RunConfig, evaluator: Evaluator, board: Grid, titles: Titles) -> None:
        self.config, self.evaluator, self.board, self.titles = config, evaluator, board, titles
        self.records = config.out / "records.jsonl"
        self.index = RecordIndex(self.records)
        self.checkpoints = checkpoints.CheckpointFolder(config.out / "partial", evaluator.stamp)
        self.locks: dict[str, FileLock] = {}
        self.begun: set[str] = set()
        self.resumed: set[str] = set()
        self.over: set[str] = set()
        self.progress: dict[str, ShardProgress] = {}
        self.measured: set[str] = set()
        self.ready: deque[Record] = deque()

    def run(self, jobs: Iterable[Job | Skip], executor: Executor) -> Iterator[Record]:
        """Yield a record per cell, each once it is on disk.

        Raises:
            StoreError: the folder cannot be written to.
        """
        try:
            with closing(executor.run(self._jobs_to_run(jobs))) as messages:  # type: ignore[type-var]
                for job, message in messages:
                    self._handle(job, message)
                    while self.ready:
                        yield self.ready.popleft()
            while self.ready:
                yield self.ready.popleft()
        finally:
            for name in list(self.locks):
                self._unlock(name)
            self.checkpoints.tidy()

    # --- which cells to measure ---

    def _jobs_to_run(self, jobs: Iterable[Job | Skip]) -> Iterator[Job | None]:
        """The cells to measure, in their order, those locked by another run last. None: none is free at the moment."""
        locked: list[Job] = []
        for job in jobs:
            if isinstance(job, Skip):
                record = self.evaluator.record(job.cell, status="skipped", reason=job.reason)
                self._finish(record, self.titles.of(job.cell))
            elif not self._reuse_record(job):
                for piece in pieces(job, self.config.shards):
                    if self._lock(piece):
                        yield from self._with_checkpoints(piece)
                    else:
                        locked.append(piece)
        while locked:
            waiting, locked = locked, []
            for job in waiting:
                if job.cell_id in self.over or (self.config.shards > 1 and self._reuse_record(job)):
                    continue
                if self._lock(job):
                    yield from self._with_checkpoints(job)
                else:
                    # A run that has failed in a cell has dropped its shards, which are then measured here.
                    again = pieces(job, self.config.shards)[:-1] if job.shard is None else []
                    locked += [piece for piece in (*again, job) if piece not in locked]
            if locked:
                yield None

    def _with_checkpoints(self, job: Job) -> Iterator[Job]:
        """The job with its checkpoints, unless another run has measured the cell just before it was locked."""
        if job.cell_id in self.over or self._reuse_record(job):
            self._unlock(_name(job))
            return
        found = self.checkpoints.load(job.cell_id)
        if found and job.cell_id not in self.begun:
            self.resumed.add(job.cell_id)
        self.begun.add(job.cell_id)
        if job.shard is not None and marker(job.shard) in found:
            self._unlock(_name(job))
            return
        yield replace(job, checkpoints=found)

    def _reuse_record(self, job: Job) -> bool:
        """Yield the record that the cell has already; False where it has none that serves."""
        record = self.index.last(job.cell_id)
        if record is None or not serves(record, self.config.diagnostics, self.evaluator.registry):
            return False
        if self.config.again and job.cell_id not in self.measured:
            return False
        self._end(job.cell_id)
        self.checkpoints.drop(job.cell_id)  # the run that wrote the record may have been killed before this
        self.board.finished(job.cell_id, self.titles.of(job.cell), "done", None, False)
        self.ready.append(record)
        return True

    def _lock(self, job: Job) -> bool:
        """Lock the cell or shard for this run; False where another run holds it, or shards of the cell are missing."""
        count = self.config.shards
        whole = job.shard is None and count > 1 and job.cell_id not in self.over
        if whole and not self.checkpoints.has(job.cell_id, (marker((number, count)) for number in range(count))):
            return False
        lock = self.checkpoints.lock(_name(job))
        if lock is not None:
            self.locks[_name(job)] = lock
        return lock is not None

    def _end(self, cell_id: str) -> None:
        """Nothing more is to be done for the shards of a cell."""
        if self.config.shards > 1:
            self.over.add(cell_id)

    def _unlock(self, name: str) -> None:
        self.checkpoints.unlock(self.locks.pop(name))

    # --- messages of running cells ---

    def _handle(self, job: Job, message: Message) -> None:
        cell_id, name = job.cell_id, self.titles.of(job.cell)
        if cell_id in self.over:  # another shard of the cell has failed
            if isinstance(message, Done):
                self._unlock(_name(job))
        elif isinstance(message, Started):
            if cell_id not in self.progress:
                self.board.started(cell_id, name, message.images)
            if job.shard is not None:
                message = self._of_cell(job.shard, cell_id, message)
            elif cell_id in self.progress:
                return
            if message.done:
                self.board.advanced(cell_id, message.done, message.robust)
        elif isinstance(message, Checkpoint):
            self.checkpoints.save(cell_id, message.name, message.data)
            if message.images:
                robust = message.robust
                if job.shard is not None:
                    self.progress[cell_id].advanced(job.shard, message.images, robust)
                    robust = self.progress[cell_id].robust
                self.board.advanced(cell_id, message.images, robust)
        elif job.shard is not None and message.status == "ok":
            self.checkpoints.save(cell_id, marker(job.shard), b"complete")
            self._unlock(_name(job))
        else:
            self._handle_done(job, message)

    def _of_cell(self, shard: tuple[int, int], cell_id: str, message: Started) -> Started:
        """The start of a shard, as far as it is news of the cell."""
        progress = self.progress.setdefault(cell_id, ShardProgress())
        news = progress.started(shard, message)
        return Started(message.images, news, progress.robust)

    def _handle_done(self, job: Job, done: Done) -> None:
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
            except ValueError as error:  # names that no file can hold
                record = self.evaluator.record(job.cell, status="failed", reason=described(error)[:500])
        self._finish(record, self.titles.of(job.cell))
        self.measured.add(job.cell_id)
        self._end(job.cell_id)
        if not done.keep:
            self.checkpoints.drop(job.cell_id)
        self._unlock(_name(job))

    def _finish(self, record: Record, name: str) -> None:
        """Write the record of a cell that is over, unless it repeats why the cell was skipped before."""
        before = self.index.last(record.cell_id)
        if record.status != "skipped" or before is None or (before.status, before.reason) != ("skipped", record.reason):
            try:
                append(self.records, record)
            except OSError as error:
                raise checkpoints.unwritable(self.config.out, error) from None
        resumed = record.cell_id in self.resumed
        self.board.finished(record.cell_id, name, record.status, record.reason, resumed)
        self.ready.append(record)


def _name(job: Job) -> str:
    """The name of the lock of a cell or shard."""
    return job.cell_id if job.shard is None else f"{job.cell_id}.{marker(job.shard)}"


#: Levels of diagnostics, each with the checks of those before it.
LEVELS = ("off", "cheap", "full")


def serves(record: Record, level: str, registry: Registry) -> bool:
    """Whether a record answers a request for diagnostics of ``level``: it is ok, and its level is no lower.

    What was measured with a plugin file that has been edited since does not; installed plugins have revisions for that.
    """
    enough = LEVELS[LEVELS.index(level) :]
    attacks = {record.attack.distribution, *(rung.distribution for rung in record.attack.rungs)}
    made_with = {record.dataset.distribution, record.defense.distribution, *attacks}
    now = {f"{entry.distribution} {entry.version}" for entry in registry.entries()}
    edited = any(" 0+" in origin and origin not in now for origin in made_with)
    return record.status == "ok" and record.diagnostics.level in enough and not edited


class RecordIndex:
    """The last record of each cell; records that other runs append are read at each look-up.

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
        self._read_appended()
        return self._last.get(cell_id)

    def _read_appended(self) -> None:
        """Read only what was added: reading thousands of records before each cell would take longer than cells."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return
        if size < self._size:  # the file was rewritten
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
                continue  # reading the whole file reports the error
            self._last[record.cell_id] = record
