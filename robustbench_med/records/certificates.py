"""Certificates of one record that cannot be true, or that say nothing, whatever was measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from robustbench_med.certification.bounds import largest_radius, lower_bound, radius
from robustbench_med.certification.settings import REVISION
from robustbench_med.interfaces.plural import plural
from robustbench_med.records.record import Record
from robustbench_med.records.sections.certified import POINTS, CertifiedSection

#: Records hold single-precision shares.
SLACK = 1e-6
#: Largest chance that a certificate does not hold: that of Cohen et al. 2019 and of every table since.
ALPHA = 0.001
FLAG = "certificate-contradicted"


def certificate_faults(record: Record, how: CertifiedSection) -> Iterator[str]:
    """What is wrong with the certificates of a measured cell, a line each."""
    yield from _of_system(record, how)
    largest = largest_radius(how.n, how.alpha, how.sigma)
    if not math.isclose(how.largest, largest, rel_tol=SLACK) or how.median > how.largest + SLACK:
        yield f"certificates reach {how.largest:.6g}, and {how.n} samples at alpha {how.alpha:g} reach {largest:.6g}"
    elif how.n <= 10**6 and not _possible(how.median, how):
        yield f"the median radius is {how.median:.6g}, which no count of {how.n} samples gives"
    chance = min(1.0, 2 * how.alpha * record.n)
    if not math.isclose(how.chance, chance, rel_tol=SLACK):
        yield f"the chance of a contradicted certificate is {how.chance:g}, and alpha and images give {chance:g}"
    for name, counted in (("certified_abstained", how.abstained), ("certified_contradicted", len(how.contradicted))):
        share = record.metrics.get(name)
        if counted > record.n or (share is not None and abs(share * record.n - counted) > SLACK * max(record.n, 1)):
            yield (
                f"{counted} of {plural(record.n, 'image is', 'images are')} counted as {name}, and its share is {share}"
            )
    if how.abstained > record.n / 2 and how.median > 0:
        yield (
            f"the median radius is {how.median:.6g}, and {how.abstained} of "
            f"{plural(record.n, 'image has', 'images have')} none"
        )
    if bool(how.contradicted) != (FLAG in record.diagnostics.flags):
        yield f"{len(how.contradicted)} certificates are contradicted, and the flag {FLAG} says otherwise"
    yield from _curve(record, how)


def _of_system(record: Record, how: CertifiedSection) -> Iterator[str]:
    """Whether there can be certificates of this system, by this procedure."""
    parts = record.defense.parts
    sigma = parts.purifier.params.get("sigma") if parts.purifier is not None else None
    if parts.purifier is None or parts.detector is not None:
        yield "certificates need a purifier that adds noise to every image, and no detector"
    elif sigma is not None and not _equal(sigma, how.sigma):
        yield f"certificates are of noise of {how.sigma:g}, and the purifier adds noise of {sigma!s:.40}"
    if record.threat.norm != "l2":
        yield f"certificates are radii in l2, and the threat is one in {record.threat.norm}"
    if (how.method, how.revision) != ("randomized smoothing", REVISION):
        yield f"certificates by {how.method!r:.60}, revision {how.revision}; this version checks revision {REVISION}"
    if how.alpha > ALPHA * (1 + SLACK):
        yield f"a certificate fails with a chance of {how.alpha:g}; at most {ALPHA:g} is published (--alpha {ALPHA:g})"


def _equal(told: object, sigma: float) -> bool:
    """Whether a parameter, which may be a text, is this number."""
    try:
        return math.isclose(float(str(told)), sigma, rel_tol=SLACK)
    except ValueError:
        return False


def _possible(found: float, how: CertifiedSection) -> bool:
    """Whether a radius follows from a count of samples."""
    every = radius(lower_bound(np.arange(how.n + 1), how.n, how.alpha), how.sigma)
    return bool(np.isclose(every, found, rtol=SLACK, atol=1e-9).any())


def _curve(record: Record, how: CertifiedSection) -> Iterator[str]:
    points, n = how.curve, max(record.n, 1)
    at, left = [point.radius for point in points], [point.accuracy for point in points]
    steps = [how.largest * step / POINTS for step in range(POINTS + 1)]
    if len(at) != len(steps) or not np.allclose(at, steps, rtol=SLACK, atol=SLACK):
        yield f"the curve of certified accuracy does not go from 0 to {how.largest:.6g} in {POINTS} equal steps"
        return
    if any(two > one + SLACK for one, two in itertools.pairwise(left)):
        yield "certified accuracy rises with the radius"
    if any(not point.low - SLACK <= point.accuracy <= point.high + SLACK for point in points):
        yield "a certified accuracy does not lie in its interval"
    if any(abs(each * n - round(each * n)) > SLACK * n for each in left):
        yield f"a certified accuracy is no share of {plural(n, 'image')}"
    clean, robust, certified = (record.metrics.get(f"{name}_accuracy") for name in ("clean", "robust", "certified"))
    if clean is None or abs(left[0] - clean) > SLACK:
        yield f"the curve of certified accuracy begins at {left[0]:.6g}, and clean accuracy is {clean}"
    if left[1] > 1 - how.abstained / n + SLACK:
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
