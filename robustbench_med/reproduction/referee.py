"""What speaks against a submission before anything is run: figures, descriptions and dates that do not add up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path

from robustbench_med.datasets.test_split import facts_of, opened
from robustbench_med.errors import UsageError
from robustbench_med.leaderboard.sources.forms import form_faults
from robustbench_med.leaderboard.sources.submission import Submission
from robustbench_med.leaderboard.sources.test_split import TestSplit
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record
from robustbench_med.reproduction.audit import faults, metrics_of
from robustbench_med.reproduction.description import dated, described


def objections(
    submission: Submission,
    splits: Mapping[str, TestSplit],
    registry: Registry,
    data_root: Path | None = None,
) -> Iterator[str]:
    """A line for each thing that does not follow from data set, plugins and per-image results.

    Args:
        submission: what was handed in.
        splits: the test splits that the leaderboard knows, by the digest of the data set; others are opened.
        registry: the plugins.
        data_root: folder of images of a data set that the leaderboard does not know.
    """
    known, metrics = dict(splits), metrics_of(registry)
    for record in submission.records:
        cell = f"cell {record.cell_id}"
        reasons = [*form_faults(record), *dated(record, dt.datetime.now(dt.UTC)), *described(record, registry)]
        outcome = submission.outcomes.get(record.cell_id)
        if record.status == "ok" and outcome is not None:
            try:
                split = _split(record, known, registry, data_root)
                reasons += faults(record, outcome, split, metrics, older=False)
            except UsageError as error:
                reasons.append(f"its images are not known here: {error}")
        yield from (f"{cell}: {reason}" for reason in dict.fromkeys(reasons))


def _split(record: Record, known: dict[str, TestSplit], registry: Registry, root: Path | None) -> TestSplit:
    """The test split of a record's data set.

    Raises:
        UsageError: it cannot be opened, or is of other images.
    """
    data, digest = record.dataset, str(record.dataset.digest)
    if digest not in known:
        asked = data.asked
        if asked is None or asked.dataset is None:
            raise UsageError("the record does not hold the options of its data set")
        dataset = opened(registry, asked.dataset, asked.partition, root, tuple(asked.unseen_site))
        if dataset.card().digest != digest:
            raise UsageError(f"{asked.dataset} has the digest {dataset.card().digest}, not {digest}")
        known[digest] = TestSplit(**facts_of(dataset, asked.partition))
    return known[digest]
