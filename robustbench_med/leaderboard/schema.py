"""Boards: plain facts, computed once, which every format, the page and the terminal show.

A `Board` holds what was measured on the same images of one data set under one threat model. Its rows, `Entry`, are
in `Section`s of rows that may be compared: the same ladder was run on the same images, and the defenses are of one
track. A rank counts within its section.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from robustbench_med.interfaces.rate import FEW, percent

if TYPE_CHECKING:
    from robustbench_med.leaderboard.ranking.answers import Answers
    from robustbench_med.leaderboard.sources.image_results import ImageResults
    from robustbench_med.records.record import Record

#: static: a classifier alone; the others do something to an image, or abstain, when it is deployed.
Track = Literal["static", "deterministic test-time", "randomized test-time"]
TRACKS: tuple[Track, ...] = ("static", "deterministic test-time", "randomized test-time")


@dataclass(frozen=True)
class Figure:
    """A figure over the seeds of a row.

    Attributes:
        value: mean over seeds; shares lie in [0, 1].
        low, high: from the lowest to the highest bound of the seeds' 95 % intervals, which are of patients where these
            are recorded; None where the figure has none.
        by_images: the interval treats images as independent, since patients are not recorded: it is too narrow.
        seeds: each seed's own value, by rising training seed.
    """

    value: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()
    by_images: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """``low`` and ``high``, where there are any."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Count:
    """How many images of how many patients; None where patients are not recorded."""

    images: int
    patients: int | None = None

    @property
    def few(self) -> bool:
        """Too few images for a figure that says anything."""
        return self.images < FEW


@dataclass(frozen=True)
class RungFigure:
    """One attack of the ladder, over the seeds of a row.

    Attributes:
        name: the attack as run: ``gate apgd:steps=10 joint:1``.
        access: the rung: ``gate``.
        withstanding: share of all images robust to everything up to here; None where it was not run.
        attacked, broken: images that it was given, and of these broke; means over seeds.
        gradients, queries: calls per image that it was given.
        reason: why it was not run; "" where it was.
    """

    name: str
    access: str
    withstanding: float | None
    attacked: float = 0.0
    broken: float = 0.0
    gradients: float = 0.0
    queries: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Mark:
    """A raised flag of the diagnostics: the attack behind the row may be weaker than it seems.

    Attributes:
        flag: its name: ``blind-detector``.
        meaning: what was seen, on one line.
    """

    flag: str
    meaning: str


@dataclass(frozen=True)
class Claim:
    """Published figures of others, not measured here.

    Attributes:
        name: the method as its authors call it.
        dataset, attack: as published.
        clean, robust: shares in [0, 1]; None where not given.
        source, url: where it is published.
        note: what a reader should know of how it was measured.
        defense, strategy: ours that it is about; "" for none. It is shown next to their rows.
    """

    name: str
    dataset: str
    attack: str
    clean: float | None
    robust: float | None
    source: str
    url: str = ""
    note: str = ""
    defense: str = ""
    strategy: str = ""


@dataclass(frozen=True)
class Paper:
    """Where a defense or a strategy is published: words, and a link or ""."""

    text: str
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row: a defense with its strategy and model, over its training seeds.

    Attributes:
        id: permanent name, ``[a-z0-9.-]+``; the same whatever seeds are added or figures change.
        system: the same for one trained system on all boards, so that eps can be compared.
        ranked, rank, tied: whether it has a rank, which (from 1), and from how many other rows of its section it is not
            significantly different.
        why_not: why it has no rank; "" for ranked rows.
        earlier: it has no rank only because it was measured with an earlier revision; it is listed with its section.
        defense: as on the command line, without strategy and model.
        defense_name: without parameters.
        strategy, strategy_full: short, ``fedavg + pgd``, and as on the command line.
        model: the classifier's architecture.
        track: see `TRACKS`.
        ladder: what was run: ``ladder:quick``; the attack where there is no ladder; ``single rungs`` for several
            records combined image by image.
        images, patients: number of images (of each seed), and of patients; None where these are not recorded.
        folds: of a cross-validation, whose test images are pooled; 0 for a single split.
        also: other names of the same system (the same weights and parts).
        clients, unseen: clients that were attacked; those of them without a part in training.
        clean, worst: accuracy on clean images, and under the worst attack of the ladder, per image.
        claim, claim_attack: the same under an attacker who does not know the defense, what most papers report, on the
            images of the row; with which attack it was found.
        claim_all, claim_images: the claim on all images where it was measured, and how many; None and 0 where these are
            the images of the row.
        drop: ``claim`` minus ``worst``; None where they are of other images.
        answered: share of attacked images that are answered, and right; None for a system that withholds no answer.
        rungs: the ladder, step by step.
        sensitivity, specificity, hidden_lesion, fake_lesion: under the worst attack.
        fpr, tpr, auroc: of the detector; None without one.
        scorings: other ways to count answers (`robustbench_med.records.scorings`), by the names of their figures in
            records; none for single rungs.
        worst_client, worst_client_accuracy: the client with the lowest accuracy under attack.
        per_client: for each client ``clean``, ``worst`` and the other figures by their names here.
        client_images: how many images and patients each client has; empty where that is not recorded.
        clean_sensitivity, clean_specificity: the same on clean images.
        gradients, queries: calls that the attacks spent on an image.
        ms: milliseconds of the measurement per image, attacks included.
        parameters: numbers in the deployed networks; None for records that do not say.
        train_seeds, seeds: seeds of training, and of attack and scoring.
        draws: noise draws each image was scored on.
        marks: raised flags, with their meaning.
        paper: of the defense (else of the strategy).
        claims: published figures of this defense or strategy.
        lowered: other attacks on the same weights that broke images which the ladder had left, and how many.
        verified: what maintainers say who ran its cells again; "" where nobody has, as for rows measured here.
        fresh: accuracy under the row's attack on images that nobody had seen; None where that was not tried.
        fresh_images: which images these were, and how many: ``16 of brainsim:seed=77``; "" for none.
        date: of the newest record, ``YYYY-MM-DD``.
        records: what the row was made from, by rising training seed.
        outcomes: per-image results of these records; None where they are not kept.
        answers: under the worst case, for each set of weights; empty where they are not known for all.
        claim_records: what the claim was made from; the same as ``records`` where it is a rung of the ladder.
    """

    id: str
    system: str
    ranked: bool
    rank: int | None = None
    tied: int = 0
    why_not: str = ""
    earlier: bool = False
    defense: str
    defense_name: str
    strategy: str
    strategy_full: str
    model: str
    track: Track
    ladder: str
    images: int
    patients: int | None = None
    folds: int = 0
    also: tuple[str, ...] = ()
    clients: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    clean: Figure | None = None
    worst: Figure | None = None
    answered: Figure | None = None
    claim: Figure | None = None
    claim_attack: str = ""
    claim_all: Figure | None = None
    claim_images: int = 0
    drop: float | None = None
    rungs: tuple[RungFigure, ...] = ()
    clean_sensitivity: Figure | None = None
    clean_specificity: Figure | None = None
    sensitivity: Figure | None = None
    specificity: Figure | None = None
    hidden_lesion: Figure | None = None
    fake_lesion: Figure | None = None
    fpr: Figure | None = None
    tpr: Figure | None = None
    auroc: Figure | None = None
    scorings: Mapping[str, Figure] = field(default_factory=dict)
    worst_client: str | None = None
    worst_client_accuracy: Figure | None = None
    per_client: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    client_images: Mapping[str, Count] = field(default_factory=dict)
    gradients: float | None = None
    queries: float | None = None
    ms: float | None = None
    parameters: int | None = None
    train_seeds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    draws: int = 1
    marks: tuple[Mark, ...] = ()
    paper: Paper | None = None
    claims: tuple[Claim, ...] = ()
    lowered: tuple[str, ...] = ()
    verified: str = ""
    fresh: Figure | None = None
    fresh_images: str = ""
    date: str = ""
    records: tuple[Record, ...] = field(default=(), repr=False)
    outcomes: tuple[ImageResults | None, ...] = field(default=(), repr=False)
    answers: tuple[Answers, ...] = field(default=(), repr=False, compare=False)
    claim_records: tuple[Record, ...] = field(default=(), repr=False)

    def rung(self, access: str) -> float | None:
        """Share of images robust after the last attack of a rung; None where it was not run."""
        found = [rung.withstanding for rung in self.rungs if rung.access == access and rung.withstanding is not None]
        return found[-1] if found else None


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
    def ranked(self) -> bool:
        """Whether its rows have ranks; those measured with an earlier revision have none."""
        return not any(entry.earlier for entry in self.entries)

    @property
    def no_better(self) -> int:
        """How many rows keep no more than one answer for all images would."""
        if self.one_answer is None:
            return 0
        return sum(each.worst is not None and each.worst.value <= self.one_answer for each in self.entries)

    @property
    def at_floor(self) -> int:
        """How many rows keep `FLOOR` or less."""
        return sum(entry.worst is not None and entry.worst.value <= FLOOR for entry in self.entries)

    @property
    def notes(self) -> list[str]:
        """What a reader of this table has to know, a sentence each."""
        found = [] if self.ranked else [EARLIER]
        rows, low = len(self.entries), self.at_floor
        if rows > 2 and 2 * low > rows:
            found.append(
                f"{low} of {rows} rows keep {100 * FLOOR:.0f} % or less: they are at the floor, where this attack no "
                "longer tells them apart, and their order is no ranking."
            )
        if useless := self.no_better:
            found.append(
                f"The most frequent class as the answer to every image would be right for {percent(self.one_answer)} % "
                f"of them: {useless} of {rows} rows keep no more than that."
            )
        if missing := sum(entry.patients is None for entry in self.entries):
            whose = "" if missing == rows else f" of {missing} rows"
            found.append(
                f"Patients{whose} are not recorded: intervals are by images, as if these were independent, and too "
                "narrow."
            )
        return found


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

    @property
    def title(self) -> str:
        """One line for people: ``brainsim (synthetic), Linf 4/255``."""
        name = f"{self.dataset}:{self.options}" if self.options else self.dataset
        words = [name, "(synthetic)" if self.synthetic else "", self.partition]
        return f"{' '.join(filter(None, words))}, {self.threat}"

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
