"""Does what the attacks did add up: attacked and broken images, and the calls that they spent? Nothing is run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED
from robustbench_med.leaderboard.sources.consistency import TOLERANCE
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.records.sections.results import RungSection
from robustbench_med.reproduction.curves import curve_faults


def rung_faults(record: Record, outcome: ImageResults, random: bool) -> Iterator[str]:
    """What the attacks did must add up; of a ``random`` system the last rung is judged on other noise draws."""
    ran = [rung for rung in record.rungs if not rung.reason]
    yield from _maxima(record)
    if not record.attack.is_ladder:
        yield from _single(record)
    if any(rung.reason and did_something(rung) for rung in record.rungs):
        yield "a rung that did not run is said to have attacked images"
    if any(rung.rung.partition(" ")[0] != rung.access for rung in ran):
        yield "a rung is named otherwise than its access"
    for what in ("gradients", "queries"):
        spent = getattr(record.spent, f"{what}_mean")
        total = math.fsum(rung.attacked * getattr(rung, f"{what}_mean") for rung in ran) / record.n if record.n else 0.0
        if spent is not None and not math.isclose(spent, total, rel_tol=1e-6, abs_tol=1e-6):
            yield f"the attacks spent {spent:.6g} {what} on an image, and their rungs {total:.6g}"
    last = ran[-1].withstanding if ran else None
    robust = record.metrics.get("robust_accuracy")
    if not random and last is not None and (robust is None or abs(last - robust) > TOLERANCE):
        told = "undefined" if robust is None else f"{robust:.6g}"
        yield f"{last:.6g} of the images are robust after the last rung, and robust_accuracy is {told}"
    if ran and not random and record.attack.is_ladder and record.attack.revision != 1 and ran[0].broken is not None:
        # A ladder begins with all that are answered right, or not answered, without an attack.
        left = (ran[0].withstanding or 0.0) * record.n
        right = int(((outcome.clean[0] == outcome.labels) | (outcome.clean[0] == ABSTAINED)).sum())
        if ran[0].attacked != right or abs(right - ran[0].broken - left) > 1e-3:
            counts = f"attacked {ran[0].attacked} of {plural(right, 'image')} and broke {ran[0].broken}"
            yield f"the first rung {counts}, and {left:.6g} withstand it"
    for before, rung in pairwise([] if random else ran):
        if before.withstanding is None or rung.withstanding is None or rung.broken is None:
            continue
        lost = (before.withstanding - rung.withstanding) * record.n
        if abs(lost - rung.broken) > 1e-3:
            yield f"rung {rung.rung} broke {plural(rung.broken, 'image')}, and {lost:.6g} fewer withstand than before"
    if any(rung.attacked > record.n or (rung.broken or 0) > rung.attacked for rung in ran):
        yield "a rung attacked more images than there are, or broke more than it attacked"
    if record.attack.is_ladder and record.attack.revision != 1:
        yield from curve_faults(record, random)


def did_something(rung: RungSection) -> bool:
    """Whether a rung is said to have attacked images, or to have made calls."""
    return bool(rung.attacked or rung.broken or rung.gradients_mean or rung.queries_mean or rung.rounds)


def _single(record: Record) -> Iterator[str]:
    """The only attack of a cell is given every image; its accuracy is in the metrics alone."""
    if len(record.rungs) != 1 or record.rungs[0].reason:
        yield "it is of one attack, which is said not to have run, or to be several"
        return
    (rung,) = record.rungs
    if rung.attacked != record.n:
        yield f"its only attack is said to have attacked {plural(rung.attacked, 'image')} of {record.n}"
    if rung.withstanding is not None or rung.broken is not None or rung.rounds or rung.gradients_max:
        yield "its only attack is said to have broken images and to have had rounds, as attacks of a ladder have"


def _maxima(record: Record) -> Iterator[str]:
    """The most calls of an image are a whole number, some where there are some, and no more than all images cost."""
    for what in ("gradients", "queries"):
        mean, most = (getattr(record.spent, f"{what}_{which}") for which in ("mean", "max"))
        if mean is None or most is None:
            continue
        total = mean * record.n
        if most != round(most) or (most > 0) != (mean > 0) or most > total * (1 + TOLERANCE) + TOLERANCE:
            yield f"the attacks spent at most {most:.6g} {what} on an image, and {total:.6g} on all of them"
