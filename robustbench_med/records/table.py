"""Records as a DataFrame, made from records alone, without plugins or torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from robustbench_med.files.escaping import escape_csv
from robustbench_med.plugins.references import format_params
from robustbench_med.records.columns import HEAD
from robustbench_med.records.record import Record


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record: what was measured, each metric, and ``<metric>_low`` / ``_high`` for those with intervals.

    ``clean_`` and ``robust_`` ``mean``, ``worst`` and ``spread`` are of the accuracy over the clients
    (`robustbench_med.records.fairness`).
    """
    return frame_of([row(record) for record in records])


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table of the rows of records."""
    frame = pd.DataFrame(rows)
    if frame.empty:
        return pd.DataFrame(columns=list(HEAD))
    head = [column for column in HEAD if column in frame]
    return frame[[*head, *(column for column in frame if column not in head)]]


def clients_to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each client of each measured record: what was measured, and the client's metrics with intervals."""
    head = ("dataset", "defense", "defense_params", "attack", "attack_params", "access", "norm", "eps", "seed")
    rows = []
    for record in records:
        shared = row(record)
        for client, figures in record.per_client.items():
            images, patients = record.client_images.get(client, (None, None))
            found = {name: shared[name] for name in (*head, "cell_id")}
            found |= {"client": client, "images": images, "patients": patients}
            for name, value in figures.items():
                found[name] = value
                if bounds := record.client_intervals.get(client, {}).get(name):
                    found[f"{name}_low"], found[f"{name}_high"] = bounds
            rows.append(found)
    return pd.DataFrame(rows)


def to_csv(table: pd.DataFrame, **options: Any) -> str:
    """A table as CSV of which a spreadsheet takes nothing for a formula, without the index.

    Args:
        table: any; its columns' names are cells too.
        options: of `pandas.DataFrame.to_csv`, such as ``sep``.
    """
    cells = {name: table[name].map(_cell) if table[name].dtype.kind == "O" else table[name] for name in table}
    safe = pd.DataFrame(cells, index=table.index).rename(columns=_cell)
    return str(safe.to_csv(**{"index": False, "lineterminator": "\n", **options}))


def _cell(value: Any) -> Any:
    return escape_csv(value) if isinstance(value, str) else value


def _training(record: Record) -> str:
    """Options of the training that the columns strategy and train_seed do not say, ``model=vit``."""
    told = {**record.defense.asked, **record.defense.replaced}
    return format_params({name: text for name, text in sorted(told.items()) if name not in ("strategy", "train-seed")})


def row(record: Record) -> dict[str, Any]:
    """The row of a record, by column."""
    strategy = record.defense.strategy
    cells: dict[str, Any] = {
        "dataset": record.dataset.name,
        "dataset_params": format_params(record.dataset.params_passed),
        "synthetic": record.dataset.synthetic,
        "defense": record.defense.name,
        "defense_params": format_params(record.defense.params_passed),
        "strategy": strategy.name if strategy else None,
        "strategy_params": format_params(strategy.params_passed) if strategy else "",
        "training": _training(record),
        "train_seed": record.defense.weights.seed,
        "partition": record.dataset.partition,
        "unseen": ", ".join(record.unseen),
        "client": "+".join(record.dataset.asked.client) if record.dataset.asked else "",
        "attack": record.attack.name,
        "attack_params": format_params(record.attack.params_passed),
        "norm": record.threat.norm,
        "eps": record.threat.eps,
        "goal": record.threat.goal,
        "finding": record.threat.finding or "",
        "access": record.threat.access,
        "budget": ", ".join(f"at most {most} {what}" for what, most in record.budget.limits.items()),
        "eot": record.eot,
        "draws": record.draws,
        "role": record.role,
        "status": record.status,
        "n": record.n,
        "patients": record.patients,
        "seed": record.seed,
        "reason": record.reason,
        "worst_client": record.worst_client,
        "seconds": record.seconds,
        "cell_id": record.cell_id,
        **record.metrics,
    }
    if record.worst_client is not None:
        worst = record.worst_client
        cells["worst_client_robust_accuracy"] = record.per_client[worst].get("robust_accuracy")
        bounds = record.client_intervals.get(worst, {}).get("robust_accuracy", (None, None))
        cells["worst_client_robust_accuracy_low"], cells["worst_client_robust_accuracy_high"] = bounds
        cells["worst_client_images"], cells["worst_client_patients"] = record.client_images.get(worst, (None, None))
    for short in ("clean", "robust"):
        figure = record.between_clients.get(f"{short}_accuracy")
        for key in ("mean", "worst", "spread"):
            cells[f"{short}_{key}"] = getattr(figure, key, None)
    for name, (low, high) in record.intervals.items():
        cells[f"{name}_low"], cells[f"{name}_high"] = low, high
    return cells
