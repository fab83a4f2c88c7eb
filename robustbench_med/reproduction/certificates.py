"""Certificates beside the answers to the same images, which bound them; the radii themselves are not published."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.records.sections.certified import CertifiedSection


def certificate_faults(record: Record, how: CertifiedSection, outcome: ImageResults) -> Iterator[str]:
    """What cannot be true of these answers, a line each."""
    n = len(outcome.index)
    withheld = int((outcome.clean[0] == ABSTAINED).sum())
    if how.abstained != withheld:
        yield (
            f"{plural(how.abstained, 'image is', 'images are')} said to have no certificate, and "
            f"the system abstained on {withheld}"
        )
    right = outcome.clean[0] == outcome.labels
    broken = {row for row, good, left in zip(outcome.index, right, outcome.robust, strict=True) if good and left < 1}
    if strange := sorted(set(how.contradicted) - broken):
        yield f"image {strange[0]} is said to contradict its certificate, and no attack broke it"
    most = int(right.sum()) - len(broken) + len(how.contradicted)
    certified = record.metrics.get("certified_accuracy")
    if certified is not None and certified * n > most + 0.5:
        yield (
            f"{plural(round(certified * n), 'image is', 'images are')} certified at eps, and at "
            f"most {most} were answered right and withstood"
        )
