"""Submissions: one file with records, per-image results and the paper; and their review."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pydantic

from robustbench_med.attacks.flags import FLAGS
from robustbench_med.errors import BadParameter, DataError
from robustbench_med.files.atomic import write_text
from robustbench_med.files.redact import portable
from robustbench_med.files.strict_json import strict_file
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.ranking.eligibility import broken, record_faults
from robustbench_med.leaderboard.ranking.identity import protocol
from robustbench_med.leaderboard.ranking.rows import superseded
from robustbench_med.leaderboard.sources import image_results as kept
from robustbench_med.leaderboard.sources.consistency import check, outcomes_of
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.reading import reading
from robustbench_med.plugins.references import PartRef, parse
from robustbench_med.records.compare import changed
from robustbench_med.records.folder import SAMPLES, open_results
from robustbench_med.records.record import Record
from robustbench_med.records.record import dumped as dumped_record
from robustbench_med.records.record import parse as parse_record
from robustbench_med.records.sections.base import Name, formatted

FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: Without a name before the host, which would read like another host.
URL = re.compile(r"https?://[A-Za-z0-9.-]{1,200}(?::\d{1,5})?(?:[/?#][A-Za-z0-9._~:/?#@!&+,;=%-]{0,400})?")

_LINE: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(Name)


@dataclass(frozen=True)
class Submission:
    """A submitted file.

    Attributes:
        name: of the file.
        defense: name of the defense that all records are of.
        paper: where it is published.
        notes: what its authors want to say.
        records, outcomes: as measured; outcomes by cell.
    """

    name: str
    defense: str
    paper: Paper
    notes: str
    records: tuple[Record, ...]
    outcomes: Mapping[str, ImageResults] = field(default_factory=dict)


def collect(out: Path, name: str, defense: str, paper: Paper, notes: str = "") -> Submission:
    """The submission that a folder of results makes; nothing is judged yet.

    ``defense`` is named as for a run, also as a recipe file; parameters that are given have to be those of the records.

    Raises:
        BadParameter: name or link cannot be those of a submission.
        DataError: there are no results of the defense, or images do not give the figures of their record.
    """
    checked_name(name)
    checked_url(paper.url)
    wanted, found = parse(defense), open_results(out)
    measured = [record for record in found if record.status != "skipped" and record.role != "probe"]
    own = tuple(record for record in measured if _is_of(record, wanted))
    if not own:
        there = ", ".join(sorted({formatted(record.defense) for record in measured})) or "none"
        raise DataError(f"{out} holds no measured cell of {defense!r}; of: {there}")
    return Submission(name, wanted.name, paper, notes, own, outcomes_of(own, out / SAMPLES))


def _is_of(record: Record, wanted: PartRef) -> bool:
    told, params = record.defense.params_passed, portable(dict(wanted.params))
    return record.defense.name == wanted.name and all(told.get(key) == value for key, value in params.items())


def default_name(defense: str) -> str:
    """The name of a submission's file: that of the recipe file, or of the defense."""
    return Path(defense).stem if Path(defense).suffix == ".toml" else parse(defense).name


def checked_name(name: str) -> str:
    """A name that can be that of a file.

    Raises:
        BadParameter: it could lead elsewhere.
    """
    if not NAME.fullmatch(name):
        raise BadParameter(f"--name {name!r}: use small letters, digits, '.', '_' and '-'")
    return name


def checked_url(url: str) -> str:
    """The address of a page.

    Raises:
        BadParameter: it is none.
    """
    if not URL.fullmatch(url):
        raise BadParameter(f"--paper {url!r}: give the address of a page, as https://arxiv.org/abs/2511.11625")
    return url


def checked_text(option: str, text: str) -> str:
    """A text on one line, as it can be read back.

    Raises:
        BadParameter: it has several lines, other control characters, or more than 1000 letters.
    """
    try:
        return _LINE.validate_python(text)
    except pydantic.ValidationError:
        raise BadParameter(f"{option} {text!r:.60}: give one line of at most 1000 letters") from None


def write(path: Path, submission: Submission) -> None:
    """Write the file to submit.

    Raises:
        StoreError: it cannot be written.
    """
    head: dict[str, Any] = {
        "format": FORMAT,
        "name": submission.name,
        "defense": submission.defense,
        "paper": {"text": submission.paper.text, "url": submission.paper.url},
        "notes": submission.notes,
    }
    records = ",\n".join(dumped_record(record) for record in submission.records)
    outcomes = ",\n".join(kept.dumped(outcome) for outcome in submission.outcomes.values())
    text = f'{json.dumps(head)[:-1]}, "records": [\n{records}\n], "outcomes": [\n{outcomes}\n]}}\n'
    write_text(path, text)


def read(path: Path) -> Submission:
    """Read a submitted file.

    Raises:
        DataError: it is none; the first thing that is wrong is named.
    """
    with reading(path, "submission"):
        return _parsed(path, strict_file(path))


class PaperFacts(pydantic.BaseModel):
    """A paper as files of others name it."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    text: Name
    url: str

    def paper(self) -> Paper:
        """The paper; raises `ValueError` if it has no address."""
        if not URL.fullmatch(self.url):
            raise ValueError(f"its paper has no address: {self.url!r:.200}")
        return Paper(self.text, self.url)


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    format: Literal[1]
    name: str
    defense: Name
    paper: PaperFacts
    notes: Name
    records: list[Any]
    outcomes: list[Any]


def _parsed(path: Path, facts: Any) -> Submission:
    file = _File.model_validate(facts)
    if not NAME.fullmatch(file.name) or file.name != path.stem:
        raise ValueError(f"it calls itself {file.name!r:.100}, its file {path.stem!r:.100}")
    records = tuple(parse_record(json.dumps(each)) for each in file.records)
    outcomes: dict[str, ImageResults] = {}
    for each in map(kept.parse, map(json.dumps, file.outcomes)):
        if outcomes.setdefault(each.cell_id, each) is not each:
            raise ValueError(f"the results of the images of cell {each.cell_id} are there twice")
    return Submission(file.name, file.defense, file.paper.paper(), file.notes, records, outcomes)


@dataclass(frozen=True)
class Review:
    """The review of a submission: ``refused`` has reasons against it, ``notes`` what the leaderboard will show."""

    refused: tuple[str, ...]
    notes: tuple[str, ...]


def review(submission: Submission, there: Mapping[str, Record]) -> Review:
    """Judge a submission; ``there`` are the leaderboard's cells."""
    refused = list(dict.fromkeys(_refusals(submission, there)))
    return Review(tuple(refused), tuple(dict.fromkeys(_notes(submission))))


def _refusals(submission: Submission, there: Mapping[str, Record]) -> Iterator[str]:
    ladders = [record for record in submission.records if record.attack.is_ladder]
    if not ladders:
        yield "no ladder was run: rbmed run --access ladder:full (or standard, quick)"
    counts = Counter(record.cell_id for record in submission.records)
    yield from (f"cell {cell} is submitted twice" for cell, count in counts.items() if count > 1)
    for record in submission.records:
        cell = f"cell {record.cell_id} ({protocol(record)})"
        if record.defense.name != submission.defense:
            yield f"{cell} is of {record.defense.name!r}, not of {submission.defense!r}"
        for fault in record_faults(record) if record.attack.is_ladder or record.status != "ok" else broken(record):
            yield f"{cell}: {fault}"
        if record.cell_id in there:
            same = not changed(there[record.cell_id], record)
            yield f"{cell} is on the leaderboard already" + ("" if same else ", with other results")
        yield from (f"{cell}: {fault}" for fault in _undocumented(record))
        outcome = submission.outcomes.get(record.cell_id)
        if record.status == "ok" and outcome is None:
            yield f"{cell}: the results of each image are missing (samples/{record.cell_id}.parquet)"
        elif outcome is not None:
            try:
                check(record, outcome, Path(submission.name))
            except DataError as error:
                yield str(error)
    if strange := set(submission.outcomes) - {record.cell_id for record in submission.records}:
        yield f"outcomes of a cell that is not submitted: {sorted(strange)[0]}"
    trained: dict[str, set[int]] = {}
    for record in submission.records:
        trained.setdefault(record.defense.weights.digest or "", set()).add(record.defense.weights.seed or 0)
    for digest, seeds in trained.items():
        if digest and len(seeds) > 1:
            yield (
                f"the weights {digest} are said to be of the training seeds {', '.join(map(str, sorted(seeds)))}: they "
                "are of one training; hand in the cells of its seed, or train with others"
            )


def _undocumented(record: Record) -> Iterator[str]:
    """What a record must say so that others can run it again."""
    if not record.dataset.digest:
        yield "no digest of the data set"
    if not record.defense.weights.digest:
        yield "no digest of the weights"
    if record.dataset.asked is None or record.attack.asked is None:
        yield "it does not hold the options of its run, so it cannot be run again"
    if not record.provenance.versions:
        yield "it does not say with which versions it was measured"


def _notes(submission: Submission) -> Iterator[str]:
    for record in submission.records:
        for flag in record.diagnostics.flags:
            yield f"mark {flag}: {FLAGS.get(flag, 'a flag of another version or plugin')}"
        if (record.provenance.commit or "").endswith("+changes"):
            yield "measured with an edited copy of robustbench-med"
    for old, new in superseded(submission.records):
        yield f"cell {old.cell_id} is superseded by cell {new.cell_id}, of the same training seed and attacks"
    presets = {protocol(record) for record in submission.records if record.attack.is_ladder}
    if presets and not any(preset.startswith("ladder:full") for preset in presets):
        yield f"run on {', '.join(sorted(presets))}; it ranks among rows of this ladder, below those of ladder:full"
    seeds = {record.defense.weights.seed for record in submission.records}
    if len(seeds) < 3:
        yield f"{plural(len(seeds), 'training seed')}; three are usual"
