"""Columns of the table of records, and their text in the reports."""

from __future__ import annotations

import pandas as pd

from robustbench_med import format_eps

#: Columns that identify the images, an attack on them, and a defense apart from its training seed. Whatever a run may
#: ask for is among them: of cells that differ in anything else, all but one would be taken for older results.
IMAGES = ("dataset", "dataset_params", "partition", "unseen", "client", "n")
THREAT = ("norm", "eps", "goal", "finding", "access", "budget", "eot", "draws", "seed")
ATTACK = (*IMAGES, "attack", "attack_params", *THREAT)
DEFENSE = ("defense", "defense_params", "strategy", "strategy_params", "training")


def dataset(row: pd.Series) -> str:
    """The data set with its parameters, the partition, the unseen sites, and the clients if these are not all."""
    named = component(row["dataset"], words(row["dataset_params"]))
    apart = (f"{what} {row[what]}" if words(row[what]) else "" for what in ("unseen", "client"))
    return words(named, row["partition"], *apart)


def attack(row: pd.Series) -> str:
    """The attack, its rung, norm and eps, a goal or finding, the budget, and a seed other than 0."""
    return words(
        component(row["attack"], row["attack_params"]),
        row["access"],
        f"{row['norm']} {format_eps(row['eps'])}",
        "" if row["goal"] == "untargeted" else row["goal"],
        row["finding"],
        row["budget"],
        f"seed {row['seed']}" if row["seed"] else "",
    )


def drop_unused(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table without those of the columns that are empty in every row."""
    return frame.drop(columns=[name for name in columns if name in frame and not (frame[name] != "").any()])


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
