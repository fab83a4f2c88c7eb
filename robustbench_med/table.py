"""Records -> DataFrame: rebuilt from records alone, without plugins or torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from robustbench_med.records import Record

#: Columns every table starts with.
HEAD = ("dataset", "synthetic", "defense", "defense_params", "attack", "attack_params", "norm", "eps", "access", "role",
        "status", "n", "seed")  # fmt: skip


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record: what was measured, each metric, and ``<metric>_low`` / ``_high`` for those with intervals."""
    rows = [_row(record) for record in records]
    frame = pd.DataFrame(rows)
    head = [column for column in HEAD if column in frame]
    return frame[[*head, *(column for column in frame if column not in head)]]


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dataset": record.dataset["name"],
        "synthetic": record.dataset["synthetic"],
        "defense": record.defense["name"],
        "defense_params": spelled(record.defense["params_passed"]),
        "attack": record.attack["name"],
        "attack_params": spelled(record.attack["params_passed"]),
        "norm": record.threat["norm"],
        "eps": record.threat["eps"],
        "access": record.threat["access"],
        "role": record.role,
        "status": record.status,
        "n": record.n,
        "seed": record.seed,
        "reason": record.reason,
        "worst_client": record.worst_client,
        "seconds": record.seconds,
        "cell_id": record.cell_id,
        **record.metrics,
    }
    if record.worst_client is not None:
        row["worst_client_robust_accuracy"] = record.per_client[record.worst_client].get("robust_accuracy")
    for name, (low, high) in record.intervals.items():
        row[f"{name}_low"], row[f"{name}_high"] = low, high
    return row


def spelled(params: dict[str, Any]) -> str:
    """Parameters as on the command line: ``steps=20,detector=[mae:passes=2]``."""
    return ",".join(f"{name}={_bracketed(str(value))}".removeprefix("=") for name, value in params.items())


def _bracketed(value: str) -> str:
    """In brackets where a comma or colon would otherwise end the value."""
    return f"[{value}]" if set(value) & set(",:[]") else value
