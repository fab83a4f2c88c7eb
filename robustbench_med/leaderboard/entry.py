"""A row of the leaderboard and what it is made of: plain facts, which every format, the page and the terminal show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from robustbench_med.interfaces.rate import FEW

if TYPE_CHECKING:
    from robustbench_med.leaderboard.ranking.answers import Answers
    from robustbench_med.leaderboard.sources.image_results import ImageResults
    from robustbench_med.records.record import Record

#: static: a classifier alone; the others do something to an image, or abstain, when it is deployed.
Track = Literal["static", "deterministic test-time", "randomized test-time"]
TRACKS: tuple[Track, ...] = ("static", "deterministic test-time", "randomized test-time")


#: Decimals of a bound of an interval.
DIGITS = 12


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

    def __post_init__(self) -> None:
        # Processors differ in the last digits of a bound, and pages have to be the same wherever they are built.
        for name in ("low", "high"):
            bound = getattr(self, name)
            object.__setattr__(self, name, None if bound is None else round(bound, DIGITS))

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
        strategy, strategy_full: in words, ``FedAvg, adversarial training (PGD)``, and as on the command line.
        model, architecture: the classifier's architecture, as on the command line, and in words, ``ResNet``.
        track: see `TRACKS`.
        ladder: what was run: ``ladder:quick``; the attack where there is no ladder; ``single rungs`` for several
            records combined image by image.
        images, patients: number of images (of each seed), and of patients; None where these are not recorded.
        folds, measured_folds: of a cross-validation, whose test images are pooled, and how many of them were measured;
            0 for a single split.
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
    architecture: str
    track: Track
    ladder: str
    images: int
    patients: int | None = None
    folds: int = 0
    measured_folds: int = 0
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

    @property
    def of_folds(self) -> str:
        """Of which folds its images are, ``5 folds`` or ``4 of 5 folds``; "" for a single split."""
        if not self.folds:
            return ""
        return f"{'' if self.measured_folds == self.folds else f'{self.measured_folds} of '}{self.folds} folds"

    def rung(self, access: str) -> float | None:
        """Share of images robust after the last attack of a rung; None where it was not run."""
        found = [rung.withstanding for rung in self.rungs if rung.access == access and rung.withstanding is not None]
        return found[-1] if found else None
