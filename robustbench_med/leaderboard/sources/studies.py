"""What the pages beside the boards are made from: records that no board ranks, in folders of their own.

``certified/``, ``corruptions/`` and ``attacks/`` have ``records/`` and ``outcomes/`` as the leaderboard itself, so that
``rbmed leaderboard add RESULTS --root leaderboard/certified --name FILE`` fills them. Any of them may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.files.jsonl import files_of
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.sources.consistency import check
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.record_form import form_faults
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS, read_outcomes, read_records
from robustbench_med.leaderboard.sources.test_split import TestSplit, checked_data, completed
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.record import Record

CERTIFIED, CORRUPTIONS, ATTACKS = "certified", "corruptions", "attacks"
STUDIES = (CERTIFIED, CORRUPTIONS, ATTACKS)
#: Folders whose new files are compressed: many records, which no board ranks and no one reviews line by line.
LARGE = ("measurements", CORRUPTIONS, ATTACKS)
#: Which records a folder is for, in words, and how to tell.
_KINDS: Mapping[str, tuple[str, Callable[[Record], bool]]] = {
    CERTIFIED: ("single attacks in l2", lambda record: record.threat.norm == "l2" and not record.attack.is_ladder),
    CORRUPTIONS: ("corruptions and acquisition", lambda record: record.threat.norm in ("corruption", "acquisition")),
    ATTACKS: (
        "single attacks with a budget",
        lambda record: not record.attack.is_ladder and bool(record.budget.limits),
    ),
}


@dataclass(frozen=True)
class StudySources:
    """Records of one folder, and the results of their images by cell."""

    records: tuple[Record, ...] = ()
    outcomes: Mapping[str, ImageResults] = field(default_factory=dict)


def read_study(root: Path, splits: Mapping[str, TestSplit]) -> StudySources:
    """Read the folder of a study; nothing where there is none.

    Raises:
        DataError: a line is no record or no outcome, a record is of another kind, contradicts itself or is written
            otherwise than a run writes it, or images do
            not give the figures of their record, or have other labels than in the data set.
    """
    files = {path: read_records(path) for path in files_of(root / RECORDS)}
    for path, there in files.items():
        checked_kind(root.name, there, path)
        for one in there:
            for fault in (*contradictions(one), *form_faults(one)):
                raise DataError(f"{path}: cell {one.cell_id}: {fault}")
            checked_data(one.dataset, splits, f"{path}: cell {one.cell_id}")
    records = [record for there in files.values() for record in there]
    _checked_names(records, root)
    by_cell = {record.cell_id: record for record in records}
    outcomes, folder = {}, root / OUTCOMES
    for cell, outcome in read_outcomes(files_of(folder)).items():
        record = by_cell.get(cell)
        if record is None or record.status != "ok":
            continue
        check(record, outcome, folder)
        split = splits.get(record.dataset.digest or "")
        outcomes[cell] = outcome if split is None else completed(outcome, split, str(folder))
    return StudySources(tuple(records), outcomes)


def _checked_names(records: Iterable[Record], origin: object) -> None:
    """Refuse two trained systems that a page would show under one name, as if they were one."""
    known: dict[tuple[object, ...], Record] = {}
    for record in records:
        name, data = identity.system_name(record), record.dataset
        first = known.setdefault((name, data.name, data.digest, data.partition), record)
        if identity.weights(first) != identity.weights(record):
            raise DataError(
                f"{origin}: cells {first.cell_id} and {record.cell_id} are of {name!r} with other weights; a page "
                "shows one training of a name"
            )


def checked_kind(name: str, records: Iterable[Record], origin: object) -> None:
    """Refuse what the page of a study would leave out without a word; other folders take anything.

    Raises:
        DataError: a record is of another kind.
    """
    if name not in _KINDS:
        return
    kind, belongs = _KINDS[name]
    for record in records:
        if not belongs(record):
            raise DataError(f"{origin}: cell {record.cell_id} is not for {name}/, which shows {kind} only")
