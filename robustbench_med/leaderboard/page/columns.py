"""The columns of the index: heading, what it means, and what a row shows there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from robustbench_med.leaderboard.model import Entry, Figure
from robustbench_med.leaderboard.page.figures import DASH, count, interval, listed, percent, plain
from robustbench_med.leaderboard.page.words import RUNGS, TERMS


@dataclass(frozen=True)
class Cell:
    """Text, a smaller line under it, and what the row is sorted by."""

    text: str
    small: str = ""
    value: float | str | None = None


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name in links.
        heading: above it.
        meaning: in a sentence.
        cell: what a row shows.
        group: of `robustbench_med.leaderboard.page.words.GROUPS`; "" is always shown.
        high: whether the largest value comes first when people sort by it.
    """

    key: str
    heading: str
    meaning: str
    cell: Callable[[Entry], Cell]
    group: str = ""
    high: bool = True


def _share(name: str, entry: Entry) -> Cell:
    figure: Figure | None = getattr(entry, name)
    return Cell(percent(figure.value if figure else None), value=figure.value if figure else None)


def _worst(entry: Entry) -> Cell:
    figure = entry.worst
    return Cell(percent(figure.value if figure else None), interval(figure), figure.value if figure else None)


def _drop(entry: Entry) -> Cell:
    return Cell(percent(entry.drop), value=entry.drop)


def _rung(access: str, entry: Entry) -> Cell:
    value = entry.rung(access)
    return Cell(percent(value), value=value)


def _client(entry: Entry) -> Cell:
    figure = entry.worst_client_accuracy
    return Cell(percent(figure.value if figure else None), entry.worst_client or "", figure.value if figure else None)


def _auroc(entry: Entry) -> Cell:
    value = entry.auroc.value if entry.auroc else None
    return Cell(plain(value), value=value)


def _number(name: str, entry: Entry) -> Cell:
    value: float | None = getattr(entry, name)
    return Cell(count(value), value=value)


def _paper(entry: Entry) -> Cell:
    return Cell(entry.paper.text if entry.paper else DASH, value=entry.paper.text if entry.paper else None)


COLUMNS = (
    Column("clean", "Clean", TERMS["Clean"], partial(_share, "clean")),
    Column("claim", "Claim", TERMS["Claim"], partial(_share, "claim")),
    Column("worst", "Worst case", TERMS["Worst case"], _worst),
    Column("drop", "Drop", TERMS["Drop"], _drop, high=False),
    *(
        Column(access, access.upper() if access == "bpda" else access.capitalize(),
               f"Share of images right after this attacker, and those before it, have tried. The attacker {sees}.",
               partial(_rung, access), "attackers")
        for access, sees in RUNGS.items()
    ),
    Column("hidden", "Hidden lesions", "Share of images with a lesion that are answered 'no lesion' under attack.",
           partial(_share, "hidden_lesion"), "lesions", high=False),
    Column("sensitivity", "Sens.", "Sensitivity under attack: share of images with a lesion answered right.",
           partial(_share, "sensitivity"), "lesions"),
    Column("specificity", "Spec.", "Specificity under attack: share of images without a lesion answered right.",
           partial(_share, "specificity"), "lesions"),
    Column("auroc", "AUROC", "How well the detector tells attacked images from clean ones; 0.5 is chance.",
           _auroc, "detector"),
    Column("fpr", "FPR", "Share of clean images that the detector flags.", partial(_share, "fpr"), "detector",
           high=False),
    Column("tpr", "TPR", "Share of attacked images that the detector flags.", partial(_share, "tpr"), "detector"),
    Column("client", "Worst client", "Accuracy under attack at the client (hospital) where it is lowest.",
           _client, "clients"),
    Column("gradients", "Gradients", "Gradient calls that the attacks spent on an image.",
           partial(_number, "gradients"), "cost"),
    Column("ms", "ms / image", "Milliseconds of the measurement per image, attacks included.",
           partial(_number, "ms"), "cost", high=False),
    Column("parameters", "Parameters", "Numbers in the deployed networks.", partial(_number, "parameters"), "cost",
           high=False),
    Column("seeds", "Seeds", "Seeds of the trainings that the figures are means of.",
           lambda entry: Cell(listed(entry.train_seeds), value=len(entry.train_seeds)), "about"),
    Column("paper", "Paper", "Where the defense is published.", _paper, "about", high=False),
    Column("date", "Date", "Of the newest record.", lambda entry: Cell(entry.date or DASH, value=entry.date), "about"),
)  # fmt: skip
