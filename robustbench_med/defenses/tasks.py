"""Whether every part of a defense fits the task of a data set."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med.defenses.resolved import ResolvedDefense
from robustbench_med.errors import BadParameter, DataError
from robustbench_med.interfaces.component import Component
from robustbench_med.interfaces.dataset import DataCard
from robustbench_med.interfaces.defense import Part
from robustbench_med.interfaces.tasks import MOST_FINDINGS

#: By kind, first-party components that work with several findings.
INSTEAD = {
    "model": "resnet",
    "strategy": "fedavg, fedprox or fedbn",
    "detector": "knn, or mae with score=reconstruction",
    "purifier": "jpeg, median or diffpure",
}


def check_parts(card: DataCard, resolved: ResolvedDefense, finding: str | None = None) -> None:
    """Raise `BadParameter` for a part that does not work with several findings, where the data set has them.

    Args:
        card: of the data set.
        resolved: the defense.
        finding: the one that is asked about, empty for all; None: the parts are trained, whatever is asked later.
    """
    if card.task != "multi-label":
        return
    if len(card.classes) > MOST_FINDINGS:
        raise DataError(f"data set {card.name!r} has {len(card.classes)} findings, more than {MOST_FINDINGS}")
    for kind, part in _parts(resolved):
        if part.multi_label == "yes" or (part.multi_label == "named" and finding != ""):
            continue
        remedy = "name one of them with --finding NAME, or " if part.multi_label == "named" else ""
        raise BadParameter(
            f"{kind} {part.spec_name!r} works with one answer for each image, and data set {card.name!r} has several "
            f"findings; {remedy}use another {kind}: {INSTEAD[kind]}"
        )


def _parts(resolved: ResolvedDefense) -> Iterator[tuple[str, Component]]:
    """Every part with its kind, wrapped ones too."""
    for kind, part in resolved.parts().items():
        yield kind, part
        if isinstance(part, Part):
            yield from ((kind, inner) for inner in _inside(part))


def _inside(part: Part) -> Iterator[Part]:
    for inner in part.inner():
        yield inner
        yield from _inside(inner)
