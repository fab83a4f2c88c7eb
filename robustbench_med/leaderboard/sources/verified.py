"""A maintainer's word on what others handed in: ``verified.jsonl``, written by ``rbmed leaderboard verify --accept``.

One JSON line for each cell of a submission, and for each evidence file::

    {"of": "1f3e...", "digest": "...", "verdict": "identical", "by": "NAME", "date": "2026-11-29", "why": "",
     "fresh": {"source": "brainsim:seed=77", "n": 320, "clean": 0.98, "robust": 0.12, "low": 0.09, "high": 0.16}}

``digest`` is that of the record with its per-image results, or of the evidence file, so that the word does not hold for
what was edited after it. ``verdict`` is ``identical``, or ``within`` where figures agree within sampling error on other
hardware, which proves nothing by itself; then ``why`` says what else convinced the maintainer. Later lines win.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from robustbench_med.errors import DataError, first_fault, shortened
from robustbench_med.files.atomic import write_text
from robustbench_med.files.strict_json import strict_json
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources import image_results as kept
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.reading import is_there
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import Count, Name

VERIFIED = "verified.jsonl"
_Share = Annotated[float, Field(ge=0, le=1)]


def _a_day(text: str) -> str:
    dt.date.fromisoformat(text)
    return text


class Fresh(pydantic.BaseModel):
    """Accuracy on images that those who handed in the record have never seen, with its 95 % interval."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    source: Name
    """Where the images are from: a data set with another seed, or ``held back``."""

    n: Annotated[Count, Field(ge=1)]
    """Number of images."""

    patients: Annotated[Count, Field(ge=1)] | None = None
    """Number of patients; null where they are not known, so that the interval is one of images."""

    clean: _Share
    """Clean accuracy."""

    robust: _Share
    """Accuracy under the record's attack."""

    low: _Share
    """Lower bound of ``robust``."""

    high: _Share
    """Upper bound of ``robust``."""

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Fresh:
        if not self.low <= self.robust <= self.high:
            raise ValueError("fresh: robust does not lie between low and high")
        if self.patients is not None and self.patients > self.n:
            raise ValueError(
                f"{plural(self.n, 'image is', 'images are')} said to be of {plural(self.patients, 'patient')}"
            )
        return self


class Word(pydantic.BaseModel):
    """What a maintainer says of a cell or of evidence."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    of: Name
    """Id of the cell, or ``evidence/NAME``."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of what was verified (`digest_of_cell`, `digest_of_file`)."""

    verdict: Literal["identical", "within"]
    """What `rbmed verify` found."""

    by: Annotated[Name, Field(min_length=1)]
    """Who says so."""

    date: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), pydantic.AfterValidator(_a_day)]
    """When."""

    why: Name = ""
    """Of ``within``, why it is believed."""

    fresh: Fresh | None = None
    """What the same weights do on images that nobody had seen."""

    @pydantic.model_validator(mode="after")
    def _reason(self) -> Word:
        if self.verdict == "within" and not self.why:
            raise ValueError("a verdict 'within' needs a reason: why")
        return self

    @property
    def text(self) -> str:
        """For a table: ``identical, NAME``."""
        return f"{self.verdict}, {self.by}" + (f": {self.why}" if self.why else "")


def digest_of_cell(record: Record, outcome: ImageResults | None) -> str:
    """SHA-256 of a record with its per-image results, which have the patients and clients that the data set says."""
    facts = record.model_dump(mode="json", exclude_unset=True, exclude={"schema_version"})
    images = "" if outcome is None else kept.dumped(outcome)
    return hashlib.sha256(f"{json.dumps(facts, sort_keys=True)}\n{images}".encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def read(path: Path) -> dict[str, Word]:
    """The words of a file by what they are of; none where there is no file.

    Raises:
        DataError: a line is none; file and line are named.
    """
    if not is_there(path, "words of maintainers"):
        return {}
    found = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            try:
                strict_json(line)
                word = Word.model_validate_json(line)
            except (ValueError, RecursionError) as error:
                fault = first_fault(error) if isinstance(error, pydantic.ValidationError) else shortened(str(error))
                raise DataError(f"{path}: line {number} is no maintainer's word: {fault}") from None
            found[word.of] = word
    return found


def add(path: Path, words: Mapping[str, Word]) -> None:
    """Add words to a file; they take the place of earlier ones of the same.

    What was found on new images stays where the new word is of the same record and does not say it.

    Raises:
        StoreError: it cannot be written.
    """
    every = read(path)
    for of, word in words.items():
        before = every.get(of)
        if word.fresh is None and before is not None and before.digest == word.digest:
            word = word.model_copy(update={"fresh": before.fresh})
        every[of] = word
    write_text(path, "".join(f"{json.dumps(word.model_dump(exclude_defaults=True))}\n" for word in every.values()))
