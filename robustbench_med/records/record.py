"""Records: one JSON line for each cell, whatever became of it.

A record holds unrounded floats with their intervals, so that tables and pages can be rebuilt from records alone. It
holds no paths of the machine and no names of users.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
from pydantic import Field

from robustbench_med.errors import BadConfig, DataError, first_fault
from robustbench_med.files import journal
from robustbench_med.files.redact import redacted
from robustbench_med.interfaces.rate import Rate, wilson
from robustbench_med.records import schema
from robustbench_med.records.migration import SCHEMA, migrated
from robustbench_med.records.schema import Count, Name, checked

Facts = dict[str, Any]
_Figures = dict[Name, float | None]


class Record(pydantic.BaseModel):
    """What became of one cell."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: int = Field(SCHEMA, ge=SCHEMA, le=SCHEMA, description="Version of this format.")
    # It names files, so it must not lead anywhere.
    cell_id: str = Field(pattern=r"^[0-9a-z]{1,64}$", description="Hash of everything that decides the numbers.")
    status: Literal["ok", "skipped", "failed"] = Field(description="What became of the cell.")
    role: Literal["claim", "probe", "cell"] = Field(
        description="claim: the oblivious setting defenses are published in; probe: a quick ladder on a few images; "
        "cell: asked for by name."
    )
    dataset: Annotated[Facts, checked(schema.Dataset)] = Field(
        description="Name, parameters, digest, licence, whether it is synthetic, and what was asked for."
    )
    defense: Annotated[Facts, checked(schema.Defense)] = Field(
        description="Name, distribution, parameters, parts, and digest of the weights."
    )
    attack: Annotated[Facts, checked(schema.Attack)] = Field(
        description="Name, distribution, parameters as passed and in full, the variant that really ran, and what was "
        "asked for."
    )
    threat: Annotated[Facts, checked(schema.Threat)] = Field(description="Norm, eps in pixel units, access, goal.")
    budget: dict[Name, Count | None] = Field(
        default_factory=dict, description="What an attack might spend on one image; null means no limit."
    )
    surrogate: Facts | None = Field(None, description="Defense whose classifier `transfer` attacked.")
    eot: Count = Field(description="Noise draws averaged in each gradient (of a ladder: the most of its rungs).")
    draws: Count = Field(description="Fresh noise draws each image was scored on.")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = Field(description="Seed of attack, defense and scoring noise.")
    limit: Count | None = Field(description="Images asked for; None means all of the test split.")
    clients: list[Name] = Field(default_factory=list, description="Clients evaluated, each with its own pipeline.")
    unseen: list[Name] = Field(
        default_factory=list, description="Those of the clients asked for that took no part in training."
    )
    n: Count = Field(0, description="Images evaluated.")
    metrics: _Figures = Field(default_factory=dict, description="Figures over all clients; null where undefined.")
    intervals: dict[Name, tuple[float, float]] = Field(
        default_factory=dict, description="Wilson 95 % intervals of those metrics that are shares."
    )
    per_client: dict[Name, _Figures] = Field(default_factory=dict, description="The same figures for each client.")
    between_clients: Annotated[dict[str, dict[str, float | str]], checked(dict[Name, schema.Between])] = Field(
        default_factory=dict,
        description="Of each share of right answers: unweighted mean over clients, worst value and its client, spread, "
        "standard deviation, number of clients. Empty for a single client.",
    )
    worst_client: Name | None = Field(None, description="The client with the lowest robust accuracy.")
    seconds: float = Field(0.0, description="Wall time of the cell, loading of weights excluded.")
    spent: dict[Name, float] = Field(
        default_factory=dict, description="Gradients and queries of the attack per image (mean and largest)."
    )
    rungs: Annotated[list[Facts], checked(list[schema.Climbed | schema.LeftOut])] = Field(
        default_factory=list,
        description="Each attack in order: rung, attack, images it was given, share withstanding so far, cost, and the "
        "reason where it could not run.",
    )
    diagnostics: Annotated[Facts, checked(schema.Diagnostics)] = Field(
        default_factory=dict, description="Level, figures and raised flags: does the attack deserve to be believed?"
    )
    peak_memory_mib: float | None = Field(
        None, description="Peak memory: of the GPU where one was used, else of the process."
    )
    reason: schema.Text | None = Field(None, description="Why a cell was skipped, or what failed.")
    provenance: Annotated[Facts, checked(schema.Provenance)] = Field(
        default_factory=dict, description="Versions, commit, command, hardware, threads, flags."
    )
    created: Name = Field(description="UTC time the cell ended.")

    @pydantic.field_validator("reason")
    @classmethod
    def _reason(cls, value: str | None) -> str | None:
        return None if value is None else redacted(value)

    @pydantic.field_validator("rungs")
    @classmethod
    def _rungs(cls, value: list[Facts]) -> list[Facts]:
        return [{**rung, "reason": redacted(rung["reason"]) if rung["reason"] else rung["reason"]} for rung in value]

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
    good, bad = split(path)
    if bad:
        journal.warn(path, bad)
    return iter(good)


def split(path: Path) -> tuple[list[Record], list[journal.InvalidLine]]:
    """The records of a file, and the lines that are none; errors as `read`."""
    try:
        return journal.read(path, parse)
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
    try:
        return Record.model_validate(facts)
    except pydantic.ValidationError as error:
        raise ValueError(first_fault(error)) from None


def _check(line: bytes) -> None:
    """Raise `ValueError` for what is not a record; those of a newer robustbench-med are left alone."""
    with suppress(BadConfig):
        parse(line)


def latest(records: Iterable[Record]) -> list[Record]:
    """Each cell once, as it was measured last, in the order of the first time."""
    return list({record.cell_id: record for record in records}.values())


def flatten(figures: dict[str, Any]) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Split computed figures into plain values and intervals; undefined and non-finite values become None."""
    values: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for name, figure in figures.items():
        if isinstance(figure, Rate):
            values[name] = figure.hits / figure.n if figure.n else None
            if figure.n:
                intervals[name] = wilson(figure)
        else:
            values[name] = float(figure) if figure is not None and math.isfinite(figure) else None
    return values, intervals
