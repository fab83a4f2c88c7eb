"""What one set of weights answers on the images of a row, clean and under attack, and the figures that follow.

Every figure of a row comes from the same answers, so that they cannot contradict one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.statistics.intervals import Interval, intervals

#: (N,), a share of noise draws for each image.
Shares = npt.NDArray[np.float64]
#: (draws, N), a class for each image, or an abstention.
Classes = npt.NDArray[np.int8]
Rows = npt.NDArray[np.bool_]
Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers on the images of a row.

    Attributes:
        index: rows of the test split, rising.
        labels: (N,).
        clean, attacked: (draws, N).
        patients, sites: (N,) hashed patient and client; empty where they are not recorded.
        lesions: measurements of the lesion of each image, (N,), by name.
    """

    index: tuple[int, ...]
    labels: npt.NDArray[np.int8]
    clean: Classes
    attacked: Classes
    patients: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    lesions: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: ImageResults) -> Answers:
        """Those of a record."""
        owners = outcome.patients, outcome.sites
        return cls(outcome.index, outcome.labels, outcome.clean, outcome.attacked, *owners, outcome.lesions)

    @cached_property
    def right(self) -> Shares:
        """(N,): share of draws on which the clean image is answered right."""
        return np.asarray((self.clean == self.labels).mean(0))

    @cached_property
    def withstood(self) -> Shares:
        """(N,): share of draws on which the system withstands the attack."""
        return np.asarray(withstood(self.attacked, self.labels, self.right).mean(0))

    @cached_property
    def answered(self) -> Shares:
        """(N,): share of draws on which the attacked image is answered, and right."""
        return np.asarray((self.attacked == self.labels).mean(0))

    @property
    def abstains(self) -> bool:
        """Some answer is withheld."""
        return bool((self.attacked == ABSTAINED).any() or (self.clean == ABSTAINED).any())

    @property
    def owners(self) -> npt.NDArray[np.float64]:
        """(N, P): 1 where an image is of a patient; where these are not recorded, each image is of its own."""
        return _owners(self.patients or self.index)

    def intervals(self, asked: Mapping[Key, tuple[Shares, Rows]]) -> dict[Key, Interval]:
        """Shares of some of the images with their intervals; those of no image are left out."""
        return intervals_of([self], [asked])[0]

    def shares(self, lesion: int | None) -> dict[tuple[str, str], tuple[Shares, Rows]]:
        """Every figure by client ("" for all) and its name in an `Entry`, as a share of some images.

        Those on lesions where their class is known.
        """
        values: dict[str, tuple[Shares, Rows]] = {}
        every = np.ones(len(self.labels), dtype=bool)
        values |= {"clean": (self.right, every), "worst": (self.withstood, every)}
        if self.abstains:
            values["answered"] = (self.answered, every)
        if lesion is not None:
            sick, answers = self.labels == lesion, self.attacked
            hidden = np.asarray(((answers != self.labels) & (answers != ABSTAINED)).mean(0))
            values |= {
                "clean_sensitivity": (self.right, sick),
                "clean_specificity": (self.right, ~sick),
                "sensitivity": (self.withstood, sick),
                "specificity": (self.withstood, ~sick),
                "hidden_lesion": (hidden, sick),
                "fake_lesion": (np.asarray((answers == lesion).mean(0)), ~sick),
            }
        parts = {"": every, **{site: self.at(site) for site in sorted(set(self.sites))}}
        return {
            (site, name): (each, kept & own) for site, own in parts.items() for name, (each, kept) in values.items()
        }

    def at(self, site: str) -> Rows:
        """(N,): the images of a client."""
        return np.array([own == site for own in self.sites], dtype=bool)


@lru_cache(maxsize=8)
def _owners(whose: tuple[object, ...]) -> npt.NDArray[np.float64]:
    """As `Answers.owners`: the rows of a board are of the same patients."""
    _, codes = np.unique(np.asarray(whose), return_inverse=True)
    found = np.eye(int(codes.max()) + 1)[codes]
    found.setflags(write=False)
    return found


def intervals_of(
    every: Sequence[Answers], asked: Sequence[Mapping[Key, tuple[Shares, Rows]]]
) -> list[dict[Key, Interval]]:
    """As `Answers.intervals`, of several answers at once where they are of the same patients."""
    if len({id(each.owners) for each in every}) > 1:
        return [intervals_of([one], [own])[0] for one, own in zip(every, asked, strict=True)]
    owners = every[0].owners
    values, rows = (np.stack(side) for side in zip(*(pair for own in asked for pair in own.values()), strict=True))
    found = iter(intervals((values * rows) @ owners, rows.astype(float) @ owners))
    return [{key: each for key, each in zip(own, found, strict=False) if each.images} for own in asked]


def withstood(attacked: Classes, labels: npt.NDArray[np.int8], right: Shares) -> Shares:
    """(draws, N): whether the system withstands an attack, in [0, 1].

    A right answer counts. A withheld answer counts as far as the same image is answered right when it is clean, so that
    a system that withholds everything withstands nothing: robustness of a detector as Tramer 2022 (ICML,
    arXiv 2107.11630) defines it. ``right``: (N,), share of draws on which the clean image is answered right.
    """
    return np.where(attacked == labels, 1.0, np.where(attacked == ABSTAINED, right, 0.0))


def lesion_class(records: Iterable[Record], outcomes: Mapping[str, ImageResults]) -> int | None:
    """The class of lesions in a data set: as records say, or the one class that all their figures are right for.

    Records of formats before 5 have figures on lesions without the class.
    """
    possible: set[int] | None = None
    for record in records:
        if record.dataset.lesion_class is not None:
            return record.dataset.lesion_class
        outcome = outcomes.get(record.cell_id)
        if outcome is None or record.metrics.get("robust_sensitivity") is None:
            continue
        fits = {label for label in set(outcome.labels.tolist()) if _fits(record, outcome, label)}
        possible = fits if possible is None else possible & fits
    return next(iter(possible)) if possible is not None and len(possible) == 1 else None


def _fits(record: Record, outcome: ImageResults, label: int) -> bool:
    """Whether the figures on lesions are those of a class."""
    sick = outcome.labels == label
    values = {
        "clean_sensitivity": outcome.correct[sick],
        "clean_specificity": outcome.correct[~sick],
        "robust_sensitivity": outcome.robust[sick],
        "robust_specificity": outcome.robust[~sick],
    }
    told = ((record.metrics.get(name), shares) for name, shares in values.items() if len(shares))
    return all(stated is not None and abs(stated - float(shares.mean())) < 1e-5 for stated, shares in told)
