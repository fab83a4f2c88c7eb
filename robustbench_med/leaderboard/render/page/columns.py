"""The columns of the index: those of every table, in groups that can be shown or hidden."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.render.columns import BY_NAME, Column
from robustbench_med.leaderboard.render.page import texts
from robustbench_med.leaderboard.render.page.figures import count, interval, or_dash, percent, share
from robustbench_med.plugins.specs import ACCESS


@dataclass(frozen=True)
class TableCell:
    """Text, a smaller line under it, and what the row is sorted by."""

    text: str
    small: str = ""
    value: float | str | None = None

    @property
    def sorted_by(self) -> str:
        """What the row is sorted by, where the text does not say it: neither the value itself nor one in percent."""
        if self.value is None or (isinstance(self.value, float) and re.fullmatch(r"\d+\.\d", self.text)):
            return ""
        value = f"{self.value:.6g}" if isinstance(self.value, float) else str(self.value)
        return "" if value == self.text else value


@dataclass(frozen=True)
class Shown:
    """A column of the index.

    Attributes:
        column: as in every table.
        heading: above it.
        group: of `robustbench_med.leaderboard.render.page.texts.GROUPS`; "" is always shown.
        meaning: in a sentence; by default the column's own.
        text: in place of the column's own.
        small: the smaller line.
    """

    column: Column
    heading: str
    group: str = ""
    meaning: str = ""
    text: Callable[[Entry], str] | None = None
    small: Callable[[Entry], str] | None = None

    @property
    def key(self) -> str:
        """Its name in links; the same as on the command line."""
        return self.column.name

    @property
    def style(self) -> str:
        """Its class: which group shows it, or where there is room for it."""
        alone = {"robust": "main", "clean": "cleancol", "claim": "mid", "drop": "mid"}
        return f"c-{self.group}" if self.group else alone[self.key]

    @property
    def told(self) -> str:
        """What it means."""
        return self.meaning or self.column.meaning

    @property
    def high(self) -> bool:
        """Whether the largest value comes first when people sort by it."""
        return self.column.falling

    def cell(self, entry: Entry) -> TableCell:
        """What a row shows."""
        text = self.text(entry) if self.text else self.column.text(entry)
        return TableCell(or_dash(text), self.small(entry) if self.small else "", self.column.value(entry))


def filled(entries: Sequence[Entry]) -> list[Shown]:
    """The columns that say anything of some rows."""
    return [each for each in COLUMNS if any(each.column.value(entry) not in (None, "") for entry in entries)]


def _shown(name: str, heading: str, group: str = "", meaning: str = "", **how: Callable[[Entry], str]) -> Shown:
    return Shown(BY_NAME[name], heading, group, meaning, **how)


def _of_client(entry: Entry) -> str:
    """Interval, name and number of images of the worst client."""
    if entry.worst_client_accuracy is None:
        return ""
    counted = entry.client_images.get(entry.worst_client or "")
    of = plural(counted.images, "image") if counted else ""
    if counted and counted.patients is not None:
        of += f" of {plural(counted.patients, 'patient')}"
    few = "too few" if counted and counted.few else ""
    whose = ": ".join(filter(None, [entry.worst_client, ", ".join(filter(None, [of, few]))]))
    return "; ".join(filter(None, [interval(entry.worst_client_accuracy), whose]))


COLUMNS = (
    _shown("clean", "Clean", meaning=texts.TERMS["Clean"]),
    _shown("claim", "Claim", meaning=texts.TERMS["Claim"]),
    _shown(
        "robust",
        "Worst case",
        meaning=texts.TERMS["Worst case"],
        text=lambda entry: share(entry.worst),
        small=lambda entry: interval(entry.worst),
    ),
    _shown("drop", "Drop", meaning=texts.TERMS["Drop"], text=lambda entry: percent(entry.drop)),
    *(
        _shown(
            f"rung-{rung}",
            rung,
            "attackers",
            f"Share still correct after this attacker and those before it. The attacker {texts.RUNGS[rung]}.",
        )
        for rung in ACCESS
    ),
    _shown("hidden", "Hidden lesions", "lesions"),
    _shown("sensitivity", "Sens.", "lesions"),
    _shown("specificity", "Spec.", "lesions"),
    _shown("fpr", "FPR", "detector"),
    _shown("tpr", "TPR", "detector"),
    _shown(
        "worst-client",
        "Worst client",
        "clients",
        text=lambda entry: share(entry.worst_client_accuracy),
        small=_of_client,
    ),
    _shown(
        "answered",
        "Answered right",
        "withheld",
        text=lambda entry: share(entry.answered),
        small=lambda entry: interval(entry.answered),
    ),
    _shown("gradients", "Gradients", "cost", text=lambda entry: count(entry.gradients)),
    _shown("queries", "Queries", "cost", text=lambda entry: count(entry.queries)),
    _shown("ms", "ms / image", "cost", text=lambda entry: count(entry.ms)),
    _shown("parameters", "Parameters", "cost"),
    _shown("images", "Images/patients", "about"),
    _shown("seeds", "Seeds", "about"),
    _shown("fresh", "On new images", "about"),
    _shown("verified", "Verified", "about"),
    _shown("paper", "Paper", "about"),
    _shown("date", "Date", "about"),
)
