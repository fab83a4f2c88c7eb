"""Lines of a terminal on the ways in which answers were counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustbench_med.cli.tables.records import name_of
from robustbench_med.interfaces.rate import percent
from robustbench_med.records.record import Record
from robustbench_med.records.scorings import MEAN, found


def lines(records: Sequence[Record]) -> Iterator[str]:
    """One line for each measured record that has more than the mean: clean and robust accuracy in percent."""
    for record in records:
        others = list(found(record)) if record.status == "ok" else []
        if others:
            mean = (MEAN, record.metrics.get(MEAN.clean), record.metrics.get(MEAN.robust))
            told = [
                f"{scoring.name} {'/'.join(map(percent, [clean, robust] if scoring.clean else [robust]))}"
                for scoring, clean, robust in [mean, *others]
            ]
            yield f"{name_of(record)}: clean/robust % as {', '.join(told)}"
