"""Do the rounds and the calls of a ladder's attacks add up, and the curve of a detector? Nothing is run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources.consistency import TOLERANCE
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.records.sections.results import RungSection

#: Points of a ROC curve are rounded to four digits, and thinned out.
ROUNDED = 1e-3
#: Shares of detected images, each with the share of false alarms that it is told for.
SHARES = (("detector_tpr_at_1", 0.01), ("detector_tpr_at_5", 0.05))


def curve_faults(record: Record, random: bool) -> Iterator[str]:
    """What does not add up, a line each; of a ``random`` system shares waver, since they are judged on fresh noise."""
    ran = [rung for rung in record.rungs if not rung.reason and rung.withstanding is not None]
    for rung in ran:
        yield from _curve(rung, record.n, random)
    most, told = [rung.gradients_max for rung in ran], record.spent.gradients_max
    if told is not None and ran and not max(most) <= told + 0.5 <= sum(most) + 1:
        yield f"the attacks spent at most {told:.6g} gradients on an image, and their rungs {max(most)} to {sum(most)}"
    if random:
        return
    for before, after in itertools.pairwise(ran):
        open_, left = record.n * (before.withstanding or 0.0), record.n * (after.withstanding or 0.0)
        if not _near(after.attacked, open_, record.n) or not _near(open_ - (after.broken or 0), left, record.n):
            counts = f"{after.attacked} attacked, {after.broken} broken, {left:.6g} left"
            yield f"{after.rung}: {open_:.6g} images were open, {counts}"


def _curve(rung: RungSection, n: int, random: bool) -> Iterator[str]:
    """The rounds of an attack end where the attack ended."""
    spent = [each.gradients for each in rung.rounds]
    if not rung.attacked:
        if spent:
            yield f"{rung.rung} attacked no image, and has {plural(len(spent), 'round')}"
        return
    if not spent:
        yield f"{rung.rung} attacked {plural(rung.attacked, 'image')}, and has no rounds"
        return
    total = rung.gradients_mean * rung.attacked
    if any(after < before for before, after in itertools.pairwise(spent)):
        yield f"{rung.rung}: fewer gradients were spent after a later round"
    if not math.isclose(spent[-1] * n, total, rel_tol=1e-6, abs_tol=1e-6):
        yield f"{rung.rung}: {spent[-1] * n:.6g} gradients after the last round, {total:.6g} in all"
    left = rung.rounds[-1].withstanding
    if abs(left - (rung.withstanding or 0.0)) > TOLERANCE:
        yield f"{rung.rung}: {left:.6g} are robust after the last round, {rung.withstanding} in all"
    if rung.gradients_max + TOLERANCE < rung.gradients_mean or rung.gradients_max > total + TOLERANCE:
        yield f"{rung.rung}: {rung.gradients_max} gradients at most do not fit a mean of {rung.gradients_mean:.6g}"
    shares = [each.withstanding for each in rung.rounds]
    if not random and any(after > before + TOLERANCE for before, after in itertools.pairwise(shares)):
        yield f"{rung.rung}: more images were robust after a later round"


def _near(one: float, two: float, n: int) -> bool:
    """Whether two numbers of images are the same, whose shares were single-precision numbers."""
    return abs(one - two) <= max(1e-3, n * TOLERANCE)


def roc_faults(record: Record, outcome: ImageResults) -> Iterator[str]:
    """Whether the ROC curve that is drawn is that of the detector's figures: its area, and no share lies above it."""
    area = record.metrics.get("detector_auroc")
    if (area is None) != (not outcome.roc):
        yield "there is a ROC curve without its area, or an area without its curve"
    if area is None or not outcome.roc:
        return
    corners = list(itertools.pairwise([(0.0, 0.0), *outcome.roc, (1.0, 1.0)]))
    low = math.fsum((right[0] - left[0]) * left[1] for left, right in corners)
    high = math.fsum((right[0] - left[0]) * right[1] for left, right in corners)
    if not low - ROUNDED <= area <= high + ROUNDED:
        yield f"detector_auroc is {area:.6g}, and the area under its ROC curve lies in [{low:.4f}, {high:.4f}]"
    for name, rate in SHARES:
        share = record.metrics.get(name)
        most = next(tpr for fpr, tpr in (*outcome.roc, (1.0, 1.0)) if fpr >= rate)
        if share is not None and share > most + ROUNDED:
            yield f"{name} is {share:.6g}, and its ROC curve has at most {most:.4f} there"
