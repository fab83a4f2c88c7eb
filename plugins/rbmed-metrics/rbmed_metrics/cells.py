"""Columns of the table of records, and their text in the reports."""

from __future__ import annotations

import pandas as pd

from robustbench_med import format_eps

#: Columns that identify an attack on a data set, and a defense apart from its training seed.
ATTACK = ("dataset", "partition", "unseen", "attack", "attack_params", "norm", "eps", "access", "seed", "n")
DEFENSE = ("defense", "defense_params", "strategy", "strategy_params")


def dataset(row: pd.Series) -> str:
    """The data set, the partition and the unseen sites."""
    return words(row["dataset"], row["partition"], f"unseen {row['unseen']}" if row["unseen"] else "")


def attack(row: pd.Series) -> str:
    """The attack, its rung, norm and eps, and a seed other than 0."""
    return words(
        component(row["attack"], row["attack_params"]),
        row["access"],
        f"{row['norm']} {format_eps(row['eps'])}",
        f"seed {row['seed']}" if row["seed"] else "",
    )


def component(name: str | float | None, params: str) -> str:
    """A component as on the command line; empty for one without a name."""
    return f"{name}:{params}" if params else words(name)


def words(*parts: str | float | None) -> str:
    """The non-empty words, joined by spaces."""
    return " ".join(part for part in parts if isinstance(part, str) and part)


def images(row: pd.Series) -> str:
    """Number of images and of patients, ``320/80``; a dash where patients are not recorded."""
    patients = row.get("patients")
    return f"{int(row['n'])}/{'-' if pd.isna(patients) else int(patients)}"
