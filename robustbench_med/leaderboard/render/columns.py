"""The columns of every table: a title, what it means, and what it says of an entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.entry import Entry, Figure
from robustbench_med.leaderboard.ranking.ranks import rank_text
from robustbench_med.plugins.specs import ACCESS
from robustbench_med.records.scorings import OTHERS
from robustbench_med.records.summary import images_and_patients, with_bounds


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: for ``--columns`` and ``--sort``.
        title: above the column.
        meaning: one line for people.
        text: what a cell says; "" for nothing.
        value: what rows are sorted by; None comes last.
        right: numbers, aligned right.
        falling: the highest comes first when sorted.
    """

    name: str
    title: str
    meaning: str
    text: Callable[[Entry], str]
    value: Callable[[Entry], float | str | None]
    right: bool = False
    falling: bool = False


def with_interval(figure: Figure | None) -> str:
    """``77.1 [65, 86]``, in percent; ``77.1 [70, 83] by images`` where patients are not recorded."""
    if figure is None:
        return ""
    alone = " by images" * (figure.by_images and figure.interval is not None)
    return with_bounds(figure.value, figure.interval) + alone


def share(name: str, title: str, meaning: str, get: Callable[[Entry], Figure | None], bounds: bool = False) -> Column:
    """A column of a figure that is a share, in percent."""

    def value(entry: Entry) -> float | None:
        figure = get(entry)
        return None if figure is None else figure.value

    def text(entry: Entry) -> str:
        return with_interval(get(entry)) if bounds else percent(value(entry))

    return Column(name, title, meaning, text, value, right=True, falling=True)


def _number(name: str, title: str, meaning: str, get: Callable[[Entry], float | None], form: str = ",.0f") -> Column:
    def text(entry: Entry) -> str:
        found = get(entry)
        return "" if found is None else format(found, form)

    return Column(name, title, meaning, text, get, right=True)


def _words(name: str, title: str, meaning: str, get: Callable[[Entry], str]) -> Column:
    return Column(name, title, meaning, get, get)


def _rung(access: str) -> Column:
    return Column(
        f"rung-{access}",
        access,
        f"share of images robust up to the rung {access}, by the draws that choose",
        lambda entry: percent(entry.rung(access)),
        lambda entry: entry.rung(access),
        right=True,
        falling=True,
    )


def worst_client(entry: Entry) -> str:
    """``33.3 [18, 52] hospital-3, n 80/20``; with fewer than 20 images it says so: ``n 16/12, too few``."""
    figure = entry.worst_client_accuracy
    return f"{with_interval(figure)} {entry.worst_client}, {client_count(entry)}" if figure else ""


def client_count(entry: Entry) -> str:
    """``n 80/20``: images and patients of the worst client."""
    count = entry.client_images.get(entry.worst_client or "")
    if count is None:
        return "n not recorded"
    few = ", too few" if count.few else ""
    return f"n {images_and_patients(count.images, count.patients)}{few}"


def seeds(entry: Entry) -> str:
    """Training seeds; where there is one, the seeds of attack and scoring."""
    return ", ".join(map(str, entry.train_seeds if len(entry.train_seeds) > 1 else entry.seeds))


def millions(entry: Entry) -> str:
    """``3.2 M``."""
    return "" if entry.parameters is None else f"{entry.parameters / 1e6:.2f} M"


def rank(entry: Entry) -> str:
    """``1``, or ``1=`` for a row that is tied with another; "" for rows without."""
    return rank_text(entry.rank, entry.tied)


def as_published(value: float | None) -> str:
    """Two decimals, as papers have them; a question mark for what they do not say."""
    return "?" if value is None else f"{100 * value:.2f}"


def published(entry: Entry) -> str:
    """Published figures, clean / attacked: ``97.67 / 87.33 on Br35H``; named where they are of the strategy alone."""
    return "; ".join(
        f"{'' if claim.defense else f'{claim.name}: '}{as_published(claim.clean)} / {as_published(claim.robust)} on "
        f"{claim.dataset}"
        for claim in entry.claims
    )


COLUMNS = (
    Column(
        "rank",
        "#",
        "one plus the number of rows that are significantly better, by a test of patients, corrected by Holm's method "
        "within the table; =: at least one other row is not significantly different",
        rank,
        lambda entry: entry.rank,
        right=True,
    ),
    _words("defense", "defense", "as on the command line", lambda entry: entry.defense),
    _words("strategy", "strategy", "how the classifier was trained over the clients", lambda entry: entry.strategy),
    _words("model", "model", "architecture of the classifier", lambda entry: entry.architecture),
    share("clean", "clean", "accuracy on clean images, through the whole defense", lambda entry: entry.clean),
    share(
        "robust",
        "robust [95 %]",
        "accuracy under the worst attack of the ladder, image by image",
        lambda entry: entry.worst,
        bounds=True,
    ),
    share(
        "answered",
        "answered right",
        "share of attacked images that are answered, and right; systems that withhold answers only",
        lambda entry: entry.answered,
        bounds=True,
    ),
    share(
        "claim",
        "claim",
        "accuracy under an attacker who does not know the defense, what most papers report",
        lambda entry: entry.claim,
    ),
    Column(
        "drop",
        "drop",
        "claim minus worst case in points, on the same images",
        lambda entry: percent(entry.drop),
        lambda entry: entry.drop,
        right=True,
    ),
    *map(_rung, ACCESS),
    share("sensitivity", "sens.", "lesions found under attack", lambda entry: entry.sensitivity),
    share("specificity", "spec.", "healthy images passed under attack", lambda entry: entry.specificity),
    share("hidden", "hidden", "lesions that the attack hid", lambda entry: entry.hidden_lesion),
    share("fpr", "FPR", "clean images that the detector flags", lambda entry: entry.fpr),
    share("tpr", "TPR", "attacked images that the detector flags", lambda entry: entry.tpr),
    *(
        share(
            scoring.name.replace(" ", "-"),
            scoring.name,
            scoring.meaning,
            lambda entry, figure=scoring.robust: entry.scorings.get(figure),  # type: ignore[misc]
        )
        for scoring in OTHERS
    ),
    Column(
        "worst-client",
        "worst client",
        "the client with the lowest accuracy under attack, its interval, images/patients; under 20 images: too few",
        worst_client,
        lambda entry: entry.worst_client_accuracy.value if entry.worst_client_accuracy else None,
        falling=True,
    ),
    _number("gradients", "gradients", "gradient calls of the attacks per image", lambda entry: entry.gradients),
    _number("queries", "queries", "forward calls of the attacks per image", lambda entry: entry.queries),
    _number("ms", "ms", "milliseconds of the measurement per image, attacks included", lambda entry: entry.ms),
    Column(
        "parameters",
        "parameters",
        "numbers in the deployed networks",
        millions,
        lambda entry: entry.parameters,
        right=True,
    ),
    _words("seeds", "seeds", "of the trainings that figures are means over; of the attack, if there is one", seeds),
    _words("flags", "marks", "raised flags of the diagnostics", lambda e: ", ".join(mark.flag for mark in e.marks)),
    _words("published", "published", "what the authors report, clean / attacked; not measured here", published),
    share("fresh", "fresh", "accuracy under attack on images that nobody had seen", lambda entry: entry.fresh, True),
    _words("verified", "verified", "who ran the cells again, and what came out", lambda entry: entry.verified),
    _words("paper", "paper", "where the defense is published", lambda entry: entry.paper.text if entry.paper else ""),
    _words("date", "date", "of the newest record", lambda entry: entry.date),
    _words("ladder", "ladder", "ladder that was run", lambda entry: entry.ladder),
    Column(
        "images",
        "images/patients",
        "number of images, and of their patients",
        lambda entry: images_and_patients(entry.images, entry.patients, entry.of_folds),
        lambda entry: entry.images,
        right=True,
    ),
    _words("also", "same as", "other names of the same weights and parts", lambda entry: "; ".join(entry.also)),
    _words("track", "track", "static, deterministic or randomized test-time", lambda entry: entry.track),
    _words("id", "id", "permanent name of the row", lambda entry: entry.id),
)
BY_NAME = {column.name: column for column in COLUMNS}
