"""Figures of one row over its training seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from robustbench_med.attacks.flags import FLAGS
from robustbench_med.leaderboard.entry import Figure, Mark, RungFigure
from robustbench_med.leaderboard.ranking.answers import Answers, intervals_of
from robustbench_med.records.record import Record
from robustbench_med.records.sections.results import RungSection


def over(
    values: Sequence[float | None], intervals: Sequence[tuple[float, float] | None] = (), by_images: bool = False
) -> Figure | None:
    """Mean over seeds, with an interval that holds those of all seeds; None unless every seed has the figure.

    ``by_images``: an interval treats images as independent.
    """
    if not values or None in values:
        return None
    known = [value for value in values if value is not None]
    mean = fmean(known)
    bounds = [bound for bound in intervals if bound is not None]
    if not bounds or len(bounds) < len(known):
        return Figure(mean, seeds=tuple(known))
    return Figure(mean, min(low for low, _ in bounds), max(high for _, high in bounds), tuple(known), by_images)


def figure(records: Sequence[Record], name: str) -> Figure | None:
    """A metric by its name in records."""
    values, bounds = ([getattr(record, what).get(name) for record in records] for what in ("metrics", "intervals"))
    return over(values, bounds, by_images(records))


def by_images(records: Sequence[Record]) -> bool:
    """Whether intervals of these records treat images as independent, since they do not know their patients."""
    return any(record.patients is None for record in records)


def answered(found: Sequence[Answers], lesion: int | None) -> dict[str, dict[str, Figure]]:
    """The figures of the answers of several sets of weights, by client ("" for all) and by their name in an `Entry`."""
    every = intervals_of(found, [each.shares(lesion) for each in found])
    images = not all(each.patients for each in found)
    made: dict[str, dict[str, Figure]] = {}
    for key in every[0]:
        own = [figures[key] for figures in every if key in figures]
        if len(own) == len(every):  # as `over`, which would take as long as all the rest
            seeds = tuple([each.value for each in own])
            low, high = min([each.low for each in own]), max([each.high for each in own])
            made.setdefault(key[0], {})[key[1]] = Figure(fmean(seeds), low, high, seeds, images)
    return made


def rungs(records: Sequence[Record]) -> tuple[RungFigure, ...]:
    """The steps of the ladder, by name in the order of the first record; means over the seeds for which they ran."""
    names = dict.fromkeys(rung.rung for record in records for rung in record.rungs)
    return tuple(_rung(name, [r for record in records for r in record.rungs if r.rung == name]) for name in names)


def _rung(name: str, rungs: Sequence[RungSection]) -> RungFigure:
    ran = [rung for rung in rungs if rung.left is not None]

    def mean(what: str) -> float:
        return fmean(float(getattr(rung, what) or 0) for rung in ran)

    access = rungs[0].access
    if not ran:
        reason = next((rung.reason for rung in rungs if rung.reason), "the record does not say")
        return RungFigure(name, access, None, reason=reason)
    left, attacked, broken = mean("withstanding"), mean("attacked"), mean("broken")
    return RungFigure(name, access, left, attacked, broken, mean("gradients_mean"), mean("queries_mean"))


def marks(records: Sequence[Record]) -> tuple[Mark, ...]:
    """The raised flags of all records, each once, by name; `above-clean` also of records that do not know it."""
    flags = sorted({flag for record in records for flag in record.diagnostics.flags} | set(_above_clean(records)))
    return tuple(Mark(flag, FLAGS.get(flag, "a flag of another version or plugin")) for flag in flags)


def _above_clean(records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        clean, robust = (record.metrics.get(f"{side}_accuracy") for side in ("clean", "robust"))
        if clean is not None and robust is not None and robust > clean + 2 / max(record.n, 1):
            yield "above-clean"


def mean_spent(records: Sequence[Record], name: str) -> float | None:
    """Calls per image, a mean over the records that count them."""
    found = [spent for record in records if (spent := getattr(record.spent, name)) is not None]
    return fmean(found) if found else None


def ms(records: Sequence[Record]) -> float | None:
    """Milliseconds of the measurement per image."""
    found = [1000 * record.seconds / record.n for record in records if record.n]
    return fmean(found) if found else None
