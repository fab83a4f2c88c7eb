"""Figures of one record that cannot all be true, whatever was measured: certificates, budgets, severities, privacy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from robustbench_med.certification.bounds import largest_radius
from robustbench_med.records.record import Record
from robustbench_med.records.sections.certified import CertifiedSection

#: Records hold single-precision shares.
SLACK = 1e-6


def contradictions(record: Record) -> Iterator[str]:
    """What cannot be true of a measured cell, a line each; nothing for a cell that was not measured."""
    if record.status != "ok":
        return
    if record.certified is not None:
        yield from _certificates(record, record.certified)
    yield from _spent(record)
    yield from _severity(record)
    yield from _privacy(record)


def _certificates(record: Record, how: CertifiedSection) -> Iterator[str]:
    part = record.defense.parts.purifier
    sigma = part.params.get("sigma") if part is not None else None
    if isinstance(sigma, float) and not math.isclose(sigma, how.sigma):
        yield f"certificates are of noise of {how.sigma:g}, and the purifier adds noise of {sigma:g}"
    largest = largest_radius(how.n, how.alpha, how.sigma)
    if not math.isclose(how.largest, largest, rel_tol=SLACK) or how.median > how.largest + SLACK:
        yield f"certificates reach {how.largest:.6g}, and {how.n} samples at alpha {how.alpha:g} reach {largest:.6g}"
    chance = min(1.0, 2 * how.alpha * record.n)
    if not math.isclose(how.chance, chance, rel_tol=SLACK):
        yield f"the chance of a contradicted certificate is {how.chance:g}, and alpha and images give {chance:g}"
    for name, counted in (("certified_abstained", how.abstained), ("certified_contradicted", len(how.contradicted))):
        share = record.metrics.get(name)
        if counted > record.n or (share is not None and abs(share * record.n - counted) > SLACK * max(record.n, 1)):
            yield f"{counted} of {record.n} images are counted as {name}, and its share is {share}"
    yield from _curve(record, how)


def _curve(record: Record, how: CertifiedSection) -> Iterator[str]:
    points, n = how.curve, max(record.n, 1)
    at, left = [point.radius for point in points], [point.accuracy for point in points]
    ordered = all(one < two for one, two in itertools.pairwise(at))
    if not points or at[0] != 0 or not ordered or not math.isclose(at[-1], how.largest, rel_tol=SLACK):
        yield f"the curve of certified accuracy does not go from 0 to {how.largest:.6g}"
        return
    if any(two > one + SLACK for one, two in itertools.pairwise(left)):
        yield "certified accuracy rises with the radius"
    if any(not point.low - SLACK <= point.accuracy <= point.high + SLACK for point in points):
        yield "a certified accuracy does not lie in its interval"
    clean, robust, certified = (record.metrics.get(f"{name}_accuracy") for name in ("clean", "robust", "certified"))
    if clean is None or abs(left[0] - clean) > SLACK:
        yield f"the curve of certified accuracy begins at {left[0]:.6g}, and clean accuracy is {clean}"
    if len(left) > 1 and left[1] > 1 - how.abstained / n + SLACK:
        yield f"{left[1]:.6g} of the images are certified, and {how.abstained} of {n} have no certificate"
    if certified is None:
        yield "certified_accuracy is missing"
        return
    eps = record.threat.eps
    most = next((acc for radius, acc in zip(reversed(at), reversed(left), strict=True) if radius <= eps), 1.0)
    least = next((acc for radius, acc in zip(at, left, strict=True) if radius >= eps), 0.0)
    if eps > how.largest * (1 + SLACK):
        most = least = 0.0
    if not least - SLACK <= certified <= most + SLACK:
        yield f"certified_accuracy is {certified:.6g} at radius {eps:g}, where the curve lies in [{least:g}, {most:g}]"
    if robust is not None and certified > robust + len(how.contradicted) / n + SLACK:
        yield (
            f"{certified:.6g} of the images are certified and {robust:.6g} withstood, and {len(how.contradicted)} are "
            "said to be broken inside their certified radius"
        )


def _spent(record: Record) -> Iterator[str]:
    for what, most in record.budget.limits.items():
        said = [getattr(record.spent, f"{what}_{which}") for which in ("mean", "max")]
        spent = max((each for each in said if each is not None), default=0.0)
        if spent > most + SLACK:
            yield f"the attacks spent {spent:g} {what} on an image, and the budget is {most}"


def _severity(record: Record) -> Iterator[str]:
    if record.threat.norm != "corruption":
        return
    eps = record.threat.eps
    said = {**record.attack.params_passed, **record.attack.params}.get("severity")
    if eps not in (1, 2, 3, 4, 5) or (said is not None and str(said) != f"{eps:g}"):
        yield f"a corruption of severity {eps:g}, whose attack says {said}; severities are 1, 2, 3, 4 and 5"


def _privacy(record: Record) -> Iterator[str]:
    federation, part = record.defense.weights.federation, record.defense.parts.strategy
    if federation is None or (federation.epsilon is None and federation.delta is None):
        return
    epsilon, delta = federation.epsilon, federation.delta
    if epsilon is None or delta is None or not (epsilon > 0 and 0 < delta < 1):
        yield f"differential privacy has epsilon {epsilon} and delta {delta}; epsilon is above 0, delta between 0 and 1"
    if part is not None and str(part.params.get("privacy", "none")) == "none":
        yield f"differential privacy of epsilon {epsilon} by a strategy without privacy"
