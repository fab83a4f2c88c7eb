"""What a tracker is told of each measured cell: a name, parameters and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import robustbench_med as rbmed
from robustbench_med import Field, Params, format_eps
from robustbench_med.errors import BadParameter

#: Columns of a table of records that say what was measured.
FACTS = (
    *("dataset", "synthetic", "defense", "defense_params", "strategy", "strategy_params", "train_seed", "partition"),
    *("unseen", "attack", "attack_params", "norm", "eps", "access", "role", "seed", "worst_client", "cell_id"),
)


class TrackerParams(Params):
    """Where the runs are kept."""

    folder: Path = Field(Path("tracked"), description="Folder for the runs; nothing is sent anywhere.")
    project: str = Field("robustbench-med", min_length=1, description="Name under which the tracker groups the runs.")


@dataclass(frozen=True)
class TrackedCell:
    """A measured cell.

    Attributes:
        key: id of the cell.
        name: for people.
        facts: what was measured, as text.
        metrics: what came out; only numbers that are defined.
    """

    key: str
    name: str
    facts: dict[str, str]
    metrics: dict[str, float]


def cells(table: pd.DataFrame) -> Iterator[TrackedCell]:
    """The measured cells of a table of records."""
    for row in table.to_dict("records"):
        if row.get("status") != "ok":
            continue
        facts = {name: _text(row[name]) for name in FACTS if name in row}
        metrics = {
            str(name): float(value)
            for name, value in row.items()
            if name not in facts and isinstance(value, int | float) and math.isfinite(value)
        }
        eps = format_eps(float(row["eps"]))
        name = f"{row['defense']} / {row['attack']} / {row['access']} / {row['norm']} {eps} / seed {row['seed']}"
        yield TrackedCell(str(row["cell_id"]), name, facts, metrics)


def folder_of(params: TrackerParams) -> Path:
    """The folder, which is made.

    Raises:
        BadParameter: it cannot be.
    """
    try:
        params.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadParameter(f"folder={params.folder} cannot be written to: {error.strerror or error}") from None
    return params.folder


def told(count: int, tracker: str, command: str) -> str:
    """What the report prints: how many runs there are, and how to look at them."""
    return f"{rbmed.plural(count, 'run')} for {tracker}; show them with: {command}\n"


def _text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
