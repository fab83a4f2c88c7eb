"""Boards: plain facts, computed once, which every format, the page and the terminal show.

A `Board` holds what was measured on the same images of one data set under one threat model. Its rows,
`robustbench_med.leaderboard.entry.Entry`, are in `Section`s of rows that may be compared: the same ladder was run on
the same images, and the defenses are of one track. A rank counts within its section.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import FEW_PATIENTS, percent
from robustbench_med.leaderboard.entry import Claim, Entry, Paper, Track

#: What is said of a section whose rows were measured with an earlier revision.
EARLIER = (
    "Measured with an earlier revision, and not ranked: today's code runs other attacks or sets thresholds otherwise, "
    "so that nobody can verify these figures until they are measured again."
)
#: Worst case up to which a row is at the floor, where order says nothing.
FLOOR = 0.05


@dataclass(frozen=True)
class Section:
    """Rows that may be compared: one track, one ladder, the same images.

    Attributes:
        id: permanent name.
        track, ladder, images, clients: what the rows have in common.
        entries: in order of rank; of those measured with an earlier revision, which have none, by their worst case.
        one_answer: share of the images that are right if all get the same answer, the most frequent class; None where
            the labels are not known for any row, or are all the same.
    """

    id: str
    track: Track
    ladder: str
    images: int
    clients: tuple[str, ...]
    entries: tuple[Entry, ...]
    one_answer: float | None = None

    @property
    def patients(self) -> int | None:
        """Number of patients of the images; None where it is not recorded for any row."""
        return max((entry.patients for entry in self.entries if entry.patients is not None), default=None)

    @property
    def few(self) -> bool:
        """Whether the images are of so few patients that its figures are a first look."""
        return self.patients is not None and self.patients < FEW_PATIENTS

    @property
    def ranked(self) -> bool:
        """Whether its rows have ranks; those measured with an earlier revision have none."""
        return not any(entry.earlier for entry in self.entries)

    @property
    def no_better(self) -> int:
        """How many rows keep no more than one answer for all images would, or too little more to be told from it."""
        return sum(self.exceeds(each) is False for each in self.entries)

    def exceeds(self, entry: Entry) -> bool | None:
        """Whether a row keeps clearly more than one answer for all images would; None where that is not known."""
        if self.one_answer is None or entry.worst is None:
            return None
        return self.one_answer < (entry.worst.value if entry.worst.low is None else entry.worst.low)

    @property
    def at_floor(self) -> int:
        """How many rows keep `FLOOR` or less."""
        return sum(entry.worst is not None and entry.worst.value <= FLOOR for entry in self.entries)

    @property
    def trainings(self) -> str:
        """How many weights its rows are of: ``one training of each row``; "" where it is not known."""
        counts = sorted({len(entry.train_seeds) for entry in self.entries})
        if not counts or not counts[0]:
            return ""
        fold = " and fold" if any(entry.folds for entry in self.entries) else ""
        if len(counts) > 1:
            return f"{counts[0]} to {counts[-1]} trainings of a row{fold}"
        return f"{'one training' if counts[0] == 1 else f'{counts[0]} trainings'} of each row{fold}"

    @property
    def notes(self) -> list[str]:
        """What a reader of this table has to know, a sentence each."""
        found = [] if self.ranked else [EARLIER]
        if self.few:
            found.append(f"Only {plural(self.patients or 0, 'patient')}: a first look, others may give other figures.")
        rows, low = len(self.entries), self.at_floor
        if rows > 2 and 2 * low > rows:
            found.append(
                f"{low} of {rows} rows keep {100 * FLOOR:.0f} % or less: they are at the floor, where this attack no "
                "longer tells them apart, and their order is no ranking."
            )
        if self.one_answer is not None:
            useless = self.no_better
            told = "the only row is" if rows == 1 else f"{useless} of {rows} rows {'is' if useless == 1 else 'are'}"
            found.append(
                "One and the same answer to every image, the most frequent class, would be right for "
                f"{percent(self.one_answer)} %{f': {told} not clearly better' if useless else ''}."
            )
        if missing := sum(entry.patients is None for entry in self.entries):
            whose = "" if missing == rows else f" of {missing} rows"
            found.append(
                f"Patients{whose} are not recorded: intervals are by images, as if these were independent, and too "
                "narrow."
            )
        return found


@dataclass(frozen=True)
class PublishedData:
    """A data set as its authors call it, and their paper."""

    name: str
    paper: Paper


@dataclass(frozen=True)
class Board:
    """What was measured on one data set under one threat model.

    Attributes:
        id: permanent name.
        dataset: its name; ``digest`` says which images, ``options`` with which parameters they were made, ``partition``
            how clients were made of them; "" where as they are.
        synthetic, licence: of the images.
        norm, eps, goal: what the attacker may do; ``eps`` in pixel units, ``eps_text`` as people write it: ``4/255``.
        sections: rows with a rank.
        unranked: rows without one, by name; each says why.
        claims: published figures on a data set of this name.
        data: what the images are called where they were published; None if nobody said.
    """

    id: str
    dataset: str
    digest: str
    options: str
    partition: str
    synthetic: bool
    licence: str
    norm: str
    eps: float
    eps_text: str
    goal: str
    sections: tuple[Section, ...]
    unranked: tuple[Entry, ...]
    claims: tuple[Claim, ...] = ()
    data: PublishedData | None = None

    @property
    def title(self) -> str:
        """One line for people: ``brainsim (synthetic), Linf 4/255``."""
        name = f"{self.dataset}:{self.options}" if self.options else self.dataset
        name = f"{self.data.name}, {name}" if self.data else name
        words = [name, "(synthetic)" if self.synthetic else "", self.partition]
        return f"{' '.join(filter(None, words))}, {self.threat}"

    @property
    def same_data(self) -> tuple[str, ...]:
        """Equal for boards of the same images and clients."""
        return self.dataset, self.options, self.partition, self.digest

    @property
    def few(self) -> bool:
        """Whether all that it shows is of few patients."""
        return bool(self.sections) and all(section.few for section in self.sections)

    @property
    def threat(self) -> str:
        """``Linf 4/255``; with the goal where it is not the usual one."""
        goal = "" if self.goal == "untargeted" else f", {self.goal}"
        return f"{self.norm.capitalize()} {self.eps_text}{goal}"

    @property
    def placed(self) -> Iterator[tuple[Section | None, Entry]]:
        """Every row: the ranked ones with their section, then the others."""
        for section in self.sections:
            yield from ((section, entry) for entry in section.entries)
        yield from ((None, entry) for entry in self.unranked)

    @property
    def entries(self) -> Iterator[Entry]:
        """Every row, as `placed`."""
        return (entry for _, entry in self.placed)
