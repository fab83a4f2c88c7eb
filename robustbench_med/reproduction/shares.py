"""Do figures that per-image results do not hold agree with those of the clients and with each other? Nothing is run."""

from __future__ import annotations

import math
from collections.abc import Iterator

from robustbench_med.leaderboard.sources.consistency import TOLERANCE
from robustbench_med.records.record import Figures, Record

#: Means over all images, so that those of the clients give that of all.
OF_ALL = (
    *(f"{side}_{what}" for side in ("clean", "attacked") for what in ("flagged", "changed")),
    *("detector_fpr", "detector_tpr", "undetected_and_wrong"),
    *("certified_accuracy", "certified_abstained", "certified_gap", "certified_radius"),
)


def share_faults(record: Record) -> Iterator[str]:
    """What cannot be true of one system, a line each; older records do not say how many images a client has."""
    for whose, figures in (("", record.metrics), *((f"{name}: ", own) for name, own in record.per_client.items())):
        yield from (f"{whose}{fault}" for fault in _within(record, figures))
    images = {site: count for site, (count, _) in record.client_images.items()}
    for name in OF_ALL:
        own = {site: figures.get(name) for site, figures in record.per_client.items() if images.get(site)}
        total, counted = record.metrics.get(name), sum(images[site] for site in own)
        if total is None or not own or None in own.values():
            continue
        mean = math.fsum((value or 0.0) * images[site] for site, value in own.items()) / counted
        if abs(mean - total) > TOLERANCE:
            yield f"{name} is {total:.6g}, and those of the clients give {mean:.6g}"


def _within(record: Record, figures: Figures) -> Iterator[str]:
    """Figures of the same images."""

    def more(one: str, two: str) -> bool:
        first, second = figures.get(one), figures.get(two)
        return first is not None and second is not None and first > second + TOLERANCE

    for less, most in (
        ("clean_changed", "clean_flagged"),
        ("attacked_changed", "attacked_flagged"),
        ("detector_tpr", "attacked_flagged"),
        ("attacked_flagged", "detector_tpr"),
        ("clean_flagged", "detector_fpr"),
        ("detector_tpr_at_1", "detector_tpr_at_5"),
    ):
        if more(less, most):
            yield f"{less} is larger than {most}"
    how, certified, robust = record.certified, figures.get("certified_accuracy"), figures.get("robust_accuracy")
    if how is None or certified is None or robust is None:
        return
    gap, mean = figures.get("certified_gap"), figures.get("certified_radius")
    if gap is not None and abs(gap - (robust - certified)) > TOLERANCE:
        yield f"certified_gap is {gap:.6g}, and {robust - certified:.6g} lies between robust and certified accuracy"
    abstained = figures.get("certified_abstained") or 0.0
    low, high = certified * record.threat.eps, (1 - abstained) * how.largest
    if mean is not None and not low - TOLERANCE <= mean <= high + TOLERANCE:
        yield f"certified_radius is {mean:.6g}, and certificates give one in [{low:.6g}, {high:.6g}]"
