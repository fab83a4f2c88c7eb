"""What a leaderboard is made from: the folder's records, per-image outcomes, submissions, and what others published."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.files.checkout import published
from robustbench_med.files.jsonl import files_of
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.sources.claims import Publications, read_claims
from robustbench_med.leaderboard.sources.consistency import check, checked_once
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.evidence import read as read_evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.lesion_sizes import checked_lesions
from robustbench_med.leaderboard.sources.names import NAMES, Names, read_names
from robustbench_med.leaderboard.sources.reading import is_there
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS, read_outcomes, read_records
from robustbench_med.leaderboard.sources.studies import STUDIES, StudySources, read_study
from robustbench_med.leaderboard.sources.submission import read as read_submission
from robustbench_med.leaderboard.sources.test_split import TestSplit, checked_data, completed, read_all
from robustbench_med.leaderboard.sources.verified import VERIFIED, Word, digest_of_cell, digest_of_file
from robustbench_med.leaderboard.sources.verified import read as read_words
from robustbench_med.records.record import Record

SUBMISSIONS, EVIDENCE, CLAIMS = "submissions", "evidence", "claims.toml"
#: Label, patient and client of each test image.
SPLITS = "splits"
#: What every reader should know of the published rows, one paragraph of plain text; optional.
NOTICE = "notice.txt"


@dataclass(frozen=True)
class Sources:
    """What is in the folder.

    Attributes:
        files: the records of each file, in its order, by the file's name.
        outcomes: by cell.
        published: claims and papers.
        evidence: answers to adversarial images of others.
        notice: a paragraph shown above the boards; empty for none.
        owners: the submission that a cell is of, by cell; those measured here are not in it.
        words: of maintainers, by cell, or ``evidence/NAME``; only those that hold for what is there now.
        splits: labels, patients and clients of test images, by the digest of the data set.
        names: of components, for people.
        studies: what is shown beside the boards, by the folder's name.
    """

    files: dict[str, list[Record]]
    outcomes: dict[str, ImageResults]
    published: Publications
    evidence: tuple[Evidence, ...] = ()
    notice: str = ""
    owners: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Word] = field(default_factory=dict)
    splits: Mapping[str, TestSplit] = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    studies: Mapping[str, StudySources] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """All records of the boards."""
        return [record for records in self.files.values() for record in records]

    @property
    def every_record(self) -> list[Record]:
        """Those of the boards and of the studies."""
        return [*self.records, *(record for study in self.studies.values() for record in study.records)]

    def boards(self) -> list[Board]:
        """The boards that follow."""
        found = (self.records, self.outcomes, self.published, self.evidence, self.owners, self.words)
        return boards(*found, names=self.names)


def default_folder() -> Path:
    """``leaderboard`` where the command runs; without records there, the one published with the package."""
    here = Path("leaderboard")
    return here if (here / RECORDS).is_dir() else published("leaderboard") or here


@contextmanager
def no_collection() -> Iterator[None]:
    """Millions of small objects are made and all are kept: looking for garbage would take a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@no_collection()
def read_sources(root: Path, check_first: Callable[[list[Record]], None] | None = None) -> Sources:
    """Read a leaderboard's folder.

    Args:
        root: of the folder.
        check_first: is given all records, before the far larger results of their images are read, and may raise.

    Raises:
        DataError: it holds no records, a line is none (file and line are named), or images do not give the figures of
            their record, or have other labels or lesions than in the data set.
        BadConfig: claims are not as they should be, or records are of a newer robustbench-med.
    """
    paths = files_of(root / RECORDS)
    if not paths:
        raise DataError(f"no records in {root / RECORDS}; name the leaderboard's folder: --root leaderboard")
    files = {path.name: read_records(path) for path in paths}
    submissions = {path: read_submission(path) for path in sorted((root / SUBMISSIONS).glob("*.json"))}
    if check_first is not None:
        submitted_records = (each.records for each in submissions.values())
        check_first(list(chain.from_iterable([*files.values(), *submitted_records])))
    outcomes = read_outcomes(files_of(root / OUTCOMES))
    published = read_claims(root / CLAIMS)
    owners: dict[str, str] = {}
    own = {record.cell_id for records in files.values() for record in records}
    for path, submitted in submissions.items():
        cells = {record.cell_id for record in submitted.records}
        if taken := sorted(cells & (own | owners.keys())):
            raise DataError(f"{path}: cell {taken[0]} is there already; a submission replaces no other's records")
        files[f"{SUBMISSIONS}/{path.name}"] = list(submitted.records)
        owners |= dict.fromkeys(cells, submitted.name)
        outcomes = {cell: each for cell, each in submitted.outcomes.items() if cell in cells} | outcomes
        published.papers.update({("cell", record.cell_id): submitted.paper for record in submitted.records})
    splits = read_all(root / SPLITS)
    for name, records in files.items():
        for record in records:
            checked_data(record.dataset, splits, f"{root / name}: cell {record.cell_id}")
            if record.cell_id in outcomes and record.status == "ok":
                origin = f"outcomes of {root / RECORDS / name}"
                check(record, outcomes[record.cell_id], origin)
                outcomes[record.cell_id] = with_patients(record, outcomes[record.cell_id], splits, origin)
    by_cell = {record.cell_id: record for records in files.values() for record in records}
    checked_lesions(by_cell.values(), outcomes)
    evidence = tuple(_read_evidence(root, by_cell, splits, outcomes))
    notice = _notice(root / NOTICE)
    words = dict(_words(root, by_cell, outcomes, evidence))
    # Images that were never scored here again lower no row.
    evidence = tuple(each for each in evidence if f"{EVIDENCE}/{each.name}" in words)
    studies = {name: read_study(root / name, splits) for name in STUDIES}
    there = [*files.values(), *(study.records for study in studies.values())]
    checked_once(record for records in there for record in records)
    names = read_names(root / NAMES)
    return Sources(files, outcomes, published, evidence, notice, owners, words, splits, names, studies)


def _notice(path: Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8").split()) if is_there(path, "notice") else ""
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def with_patients(record: Record, outcome: ImageResults, splits: Mapping[str, TestSplit], origin: str) -> ImageResults:
    """Per-image results of a record, with the patients and clients of its data set where that is known here.

    Raises:
        DataError: they are of other images, or have other labels.
    """
    split = splits.get(record.dataset.digest or "")
    return outcome if split is None else completed(outcome, split, origin)


def _read_evidence(
    root: Path, records: Mapping[str, Record], splits: Mapping[str, TestSplit], outcomes: Mapping[str, ImageResults]
) -> Iterator[Evidence]:
    """Evidence, its labels compared with those of the data set.

    Raises:
        DataError: evidence is against a cell that is not there, or has other labels than the data set, or than the
            cell where the leaderboard does not know the data set.
    """
    for path in sorted((root / EVIDENCE).glob("*.json")):
        each, name = read_evidence(path), f"{EVIDENCE}/{path.name}"
        record = records.get(each.cell_id)
        if record is None:
            raise DataError(f"{name} is against cell {each.cell_id}, which is not there")
        yield with_known_labels(each, record, splits, outcomes, name)


def with_known_labels(
    each: Evidence,
    record: Record,
    splits: Mapping[str, TestSplit],
    outcomes: Mapping[str, ImageResults],
    name: str,
) -> Evidence:
    """Evidence against the cell of a record, with patients and clients of the data set.

    Raises:
        DataError: it has other labels than the data set; where the leaderboard does not know that, than the cell.
    """
    sides = [with_patients(record, side, splits, name) for side in (each.choice, each.outcome)]
    if record.dataset.digest not in splits:
        known = outcomes.get(each.cell_id)
        labels = dict(zip(known.index, known.labels.tolist(), strict=True)) if known is not None else {}
        for side in sides:
            for row, label in zip(side.index, side.labels.tolist(), strict=True):
                if labels.get(row) != label:
                    raise DataError(
                        f"{name}: the label of image {row} is not known here to be {label}; write the test split of "
                        "its data set: rbmed leaderboard split"
                    )
    return replace(each, choice=sides[0], outcome=sides[1])


def _words(
    root: Path,
    records: Mapping[str, Record],
    outcomes: Mapping[str, ImageResults],
    evidence: Iterable[Evidence],
) -> Iterator[tuple[str, Word]]:
    """What maintainers say, where it holds for what is there now."""
    said = read_words(root / VERIFIED)
    for cell in said.keys() & records.keys():
        if said[cell].digest == digest_of_cell(records[cell], outcomes.get(cell)):
            yield cell, said[cell]
    for each in evidence:
        name = f"{EVIDENCE}/{each.name}"
        if name in said and said[name].digest == digest_of_file(root / f"{name}.json"):
            yield name, said[name]
