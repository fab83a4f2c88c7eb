"""Records: one JSON line for each cell, whether it was measured, skipped or failed.

A record holds unrounded floats with their intervals, so that tables and pages can be rebuilt from records alone. It
holds no paths of the machine and no names of users.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import pydantic_core
from pydantic import Field

from robustbench_med.errors import BadConfig, DataError, first_fault
from robustbench_med.files import journal
from robustbench_med.interfaces.rate import Rate, interval, wilson
from robustbench_med.records.migration import SCHEMA, migrated
from robustbench_med.records.sections.attack import AttackSection, BudgetSection, ThreatSection
from robustbench_med.records.sections.base import Count, Moment, Name, Number, Reason, RecordSection, Size
from robustbench_med.records.sections.certified import CertifiedSection
from robustbench_med.records.sections.dataset import DatasetSection
from robustbench_med.records.sections.defense import DefenseSection, PartsSection, SurrogateSection
from robustbench_med.records.sections.provenance import ProvenanceSection
from robustbench_med.records.sections.results import DiagnosticsSection, FairnessSection, RungSection, SpentSection

T = TypeVar("T")
Figures = dict[Name, Number | None]
_MISSING: Any = object()
#: Sections that many records have in common: each is checked and kept once. They are frozen.
_SHARED: dict[str, type[RecordSection]] = {
    "dataset": DatasetSection,
    "attack": AttackSection,
    "threat": ThreatSection,
    "budget": BudgetSection,
    "provenance": ProvenanceSection,
}
#: How many are remembered.
SECTIONS = 4096
_sections: dict[tuple[str, bytes], RecordSection] = {}


class Record(pydantic.BaseModel):
    """The result of one cell."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: int = Field(SCHEMA, ge=SCHEMA, le=SCHEMA)
    """Version of this format."""

    # It names files, so it must not contain a path.
    cell_id: str = Field(pattern=r"^[0-9a-z]{1,64}$")
    """Hash of everything that decides the numbers."""

    status: Literal["ok", "skipped", "failed"]
    """Whether the cell was measured."""

    role: Literal["claim", "probe", "cell"]
    """claim: the oblivious setting in which defenses are published; probe: a quick ladder on a few images; cell: chosen
    by the user."""

    dataset: DatasetSection
    """The data set."""

    defense: DefenseSection
    """The deployed system and its weights."""

    attack: AttackSection
    """The attack, or the ladder with its attacks."""

    threat: ThreatSection
    """The threat model."""

    budget: BudgetSection = BudgetSection()
    """What an attack might spend on one image."""

    surrogate: SurrogateSection | None = None
    """Defense whose classifier the rung `transfer` attacked."""

    eot: Count
    """Noise draws averaged in each gradient; of a ladder, the most of its rungs."""

    draws: Count
    """Fresh noise draws on which each image was scored."""

    seed: Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]
    """Seed of the noise of attack, defense and scoring."""

    limit: Count | None
    """Number of images that was requested; null for the whole test split."""

    clients: list[Name] = Field(default_factory=list)
    """Clients that were evaluated, each with its own pipeline."""

    unseen: list[Name] = Field(default_factory=list)
    """Those of the requested clients that took no part in training."""

    n: Count = 0
    """Number of images that were evaluated."""

    patients: Count | None = None
    """Number of patients of these images; null where they are not known, as in formats before 5."""

    client_images: dict[Name, tuple[Count, Count | None]] = Field(default_factory=dict)
    """Of each client, the number of images and of patients; empty in formats before 5."""

    metrics: Figures = Field(default_factory=dict)
    """Figures over all clients; null where undefined."""

    intervals: dict[Name, tuple[Number, Number]] = Field(default_factory=dict)
    """95 % intervals of those metrics that are shares: of patients (`robustbench_med.statistics.intervals`) where
    ``patients`` is a number, else Wilson intervals of images as if each were independent."""

    per_client: dict[Name, Figures] = Field(default_factory=dict)
    """The same figures for each client."""

    client_intervals: dict[Name, dict[Name, tuple[Number, Number]]] = Field(default_factory=dict)
    """Their intervals; empty in formats before 5."""

    between_clients: dict[Name, FairnessSection] = Field(default_factory=dict)
    """Distribution over the clients of each share of correct answers; empty for a single client."""

    worst_client: Name | None = None
    """The client with the lowest robust accuracy."""

    seconds: Size = 0.0
    """Wall time of the cell, without the loading of weights."""

    spent: SpentSection = SpentSection()
    """Calls of the attacks for each image."""

    certified: CertifiedSection | None = None
    """Certificates by randomized smoothing, where they were requested; the answers are then those of the smoothed
    system."""

    rungs: list[RungSection] = Field(default_factory=list)
    """What each attack did, in order; those that did not run come last."""

    diagnostics: DiagnosticsSection = DiagnosticsSection()
    """Whether the attack can be trusted."""

    peak_memory_mib: Size | None = None
    """Peak memory: of the GPU where one was used, else of the process."""

    reason: Reason | None = None
    """Why a cell was skipped, or what failed."""

    provenance: ProvenanceSection = ProvenanceSection()
    """Versions, commit, command, hardware and settings."""

    created: Moment
    """UTC time at which the cell ended."""

    @pydantic.model_validator(mode="after")
    def _worst(self) -> Record:
        if self.worst_client is not None and self.worst_client not in self.per_client:
            raise ValueError(f"worst_client: {self.worst_client!r} is not among the clients")
        return self


def append(path: Path, record: Record) -> None:
    """Add one line, whole or not at all; several processes may append to one file.

    Lines that are no records are set aside first (`robustbench_med.files.journal`).

    Raises:
        StoreError: it cannot be written; the file is as it was.
    """
    journal.append(path, dumped(record), _check)


def read(path: Path) -> Iterator[Record]:
    """The records of a file, in its order; a line that is not a record is passed over with a `StoreWarning`.

    Raises:
        DataError: the file cannot be read.
        BadConfig: a record was written by a newer robustbench-med.
    """
    good, bad = split(path, lambda record: record)
    if bad:
        journal.warn(path, bad)
    return iter(good)


def split(
    path: Path, keep: Callable[[Record], T], check: Callable[[bytes], object] = bytes
) -> tuple[list[T], list[journal.InvalidLine]]:
    """What is to be kept of each record of a file, and the lines that are none; errors as `read`.

    ``check`` raises `ValueError` for a line that is not taken although it is a record.
    """

    def kept(line: bytes) -> T:
        record = parse(line)
        check(line)
        return keep(record)

    try:
        return journal.read(path, kept)
    except BadConfig as error:
        raise BadConfig(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"cannot read the records in {path}: {error.strerror or error}") from None


def dumped(record: Record) -> str:
    """A record as one line of JSON."""
    return json.dumps(record.model_dump(mode="json"), allow_nan=False)


def parse(line: bytes | str) -> Record:
    """A record from one line of JSON, of this format or an older one.

    Raises:
        ValueError: it is not a record; the message says why.
        BadConfig: it was written by a newer robustbench-med.
    """
    facts = migrated(pydantic_core.from_json(line, allow_inf_nan=False))
    # 1e999 is read as infinity. The check of the standard library would cost as much as all other reading.
    if b"Infinity" in pydantic_core.to_json(facts, inf_nan_mode="constants"):
        json.dumps(facts, allow_nan=False)
    for name, kind in _SHARED.items():
        facts[name] = _shared(kind, facts.get(name, _MISSING))
    if isinstance(rungs := facts.get("rungs"), list):
        facts["rungs"] = [_shared(RungSection, rung) if _left_out(rung) else rung for rung in rungs]
    if isinstance(defense := facts.get("defense"), dict) and isinstance(defense.get("parts"), dict):
        facts["defense"] = defense | {"parts": _shared(PartsSection, defense["parts"])}
    try:
        return Record.model_validate({name: value for name, value in facts.items() if value is not _MISSING})
    except pydantic.ValidationError as error:
        raise ValueError(first_fault(error)) from None


def _left_out(rung: Any) -> bool:
    return isinstance(rung, dict) and bool(rung.get("reason"))


def _shared(kind: type[RecordSection], facts: Any) -> Any:
    """The section that these facts give; what is wrong with them is said by the check of the whole record."""
    if not isinstance(facts, dict):
        return facts
    key = (kind.__name__, pydantic_core.to_json(facts))
    found = _sections.get(key)
    if found is None:
        try:
            found = kind.model_validate(facts)
        except pydantic.ValidationError:
            return facts
        if len(_sections) >= SECTIONS:
            _sections.clear()
        _sections[key] = found
    return found


def _check(line: bytes) -> None:
    """Raise `ValueError` for what is not a record; those of a newer robustbench-med are left alone."""
    with suppress(BadConfig):
        parse(line)


def latest(records: Iterable[Record]) -> list[Record]:
    """Each cell once, as it was measured last, in the order of the first time."""
    return list({record.cell_id: record for record in records}.values())


def flatten(
    figures: dict[str, Any], patients: bool = True
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Split computed figures into plain values and intervals; undefined and non-finite values become None.

    Intervals are of patients, or of images where the ``patients`` are not known.
    """
    values: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for name, figure in figures.items():
        if isinstance(figure, Rate):
            values[name] = figure.hits / figure.n if figure.n else None
            if figure.n:
                intervals[name] = interval(figure) if patients else wilson(figure)
        else:
            values[name] = float(figure) if figure is not None and math.isfinite(figure) else None
    return values, intervals
