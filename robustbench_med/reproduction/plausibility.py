"""What speaks against a submission before anything is run: figures, descriptions and dates that do not add up."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from robustbench_med.datasets.test_split import facts_of, opened
from robustbench_med.errors import UsageError
from robustbench_med.leaderboard.ranking.folds import Pools, pooled
from robustbench_med.leaderboard.ranking.pool import Pooled
from robustbench_med.leaderboard.ranking.rows import unique
from robustbench_med.leaderboard.sources.record_form import form_faults
from robustbench_med.leaderboard.sources.submission import Submission
from robustbench_med.leaderboard.sources.test_split import TestSplit
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record
from robustbench_med.reproduction.audit import faults, metrics_of
from robustbench_med.reproduction.description import dated, described

#: Cells that are named where one thing is wrong with many.
NAMED = 3


def objections(
    submission: Submission,
    splits: Mapping[str, TestSplit],
    registry: Registry,
    data_root: Path | None = None,
) -> Iterator[str]:
    """A line for each thing that does not follow from data set, plugins and per-image results, with its cells.

    Args:
        submission: what was handed in.
        splits: the test splits that the leaderboard knows, by the digest of the data set; others are opened.
        registry: the plugins.
        data_root: folder of images of a data set that the leaderboard does not know.
    """
    known, metrics = _Splits(splits, registry, data_root), metrics_of(registry)
    cells: dict[str, list[str]] = defaultdict(list)
    for record in submission.records:
        reasons = [*form_faults(record), *dated(record, dt.datetime.now(dt.UTC)), *described(record, registry)]
        outcome = submission.outcomes.get(record.cell_id)
        if record.status == "ok" and outcome is not None:
            try:
                reasons += faults(record, outcome, known.of(record), metrics, older=False)
            except UsageError as error:
                reasons.append(f"its images are not known here: {error}")
        for reason in dict.fromkeys(reasons):
            cells[reason].append(record.cell_id)
    # What is wrong with many cells, such as that there are no images, is said once.
    yield from (f"{_each(own)}: {reason}" for reason, own in cells.items())


def fold_objections(submission: Submission) -> Iterator[str]:
    """Why folds that were handed in make no row: some are missing, or do not belong together."""
    for record in pooled(Pools(unique(submission.records), submission.outcomes)).records:
        if isinstance(record, Pooled) and record.attack.is_ladder:
            yield from (f"cell {record.members[0].cell_id}: {gap}" for gap in record.gaps)


def _each(cells: Sequence[str]) -> str:
    if len(cells) == 1:
        return f"cell {cells[0]}"
    more = f" and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
    return f"each of {len(cells)} cells ({', '.join(cells[:NAMED])}{more})"


class _Splits:
    """The test splits of data sets, each of which is opened once at most, whether it can be or not."""

    def __init__(self, known: Mapping[str, TestSplit], registry: Registry, root: Path | None) -> None:
        self.known, self.registry, self.root = dict(known), registry, root
        self.failed: dict[object, UsageError] = {}

    def of(self, record: Record) -> TestSplit:
        """That of a record's data set.

        Raises:
            UsageError: it cannot be opened, or is of other images.
        """
        data, digest = record.dataset, str(record.dataset.digest)
        if digest in self.known:
            return self.known[digest]
        asked = data.asked
        if asked is None or asked.dataset is None:
            raise UsageError("the record does not hold the options of its data set")
        wanted = (asked.dataset, asked.partition, tuple(asked.unseen_site), digest)
        if wanted in self.failed:
            raise self.failed[wanted]
        try:
            dataset = opened(self.registry, asked.dataset, asked.partition, self.root, tuple(asked.unseen_site))
            if dataset.card().digest != digest:
                raise UsageError(f"{asked.dataset} has the digest {dataset.card().digest}, not {digest}")
        except UsageError as error:
            self.failed[wanted] = error
            raise
        self.known[digest] = TestSplit(**facts_of(dataset, asked.partition))
        return self.known[digest]
