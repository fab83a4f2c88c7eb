"""What was certified: the accuracy that no attack in L2 can take, beside the one that an attack left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import Rate, interval, wilson
from robustbench_med.records.sections.base import Count, Name, RecordSection

if TYPE_CHECKING:
    from robustbench_med.certification.settings import Certification
    from robustbench_med.interfaces.results import Outcome

#: Points of the curve after that of radius 0.
POINTS = 12
_Share = Annotated[float, Field(ge=0, le=1.000001)]
_Radius = Annotated[float, Field(ge=0, le=1e6)]


class CertifiedPoint(RecordSection):
    """The certified accuracy at a radius."""

    radius: _Radius
    """L2 radius over the whole image, in units of pixels in [0, 1]."""

    accuracy: _Share
    """Share of the images whose answer is right and certified up to this radius."""

    low: _Share
    """Lower end of its 95 % interval."""

    high: _Share
    """Upper end."""


class CertifiedSection(RecordSection):
    """Certificates of the images of a cell, by randomized smoothing (Cohen et al. 2019)."""

    method: Name = "randomized smoothing"
    """How."""

    sigma: Annotated[float, Field(gt=0, le=1e6)]
    """Standard deviation of the noise."""

    n0: Annotated[Count, Field(ge=1)]
    """Samples that chose the class of an image."""

    n: Annotated[Count, Field(ge=1)]
    """Samples that bounded its probability."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    """Chance that the certificate of an image does not hold."""

    revision: Count = 1
    """Revision of the procedure."""

    largest: _Radius
    """Largest radius that so many samples can certify."""

    median: _Radius
    """Median radius over all images; 0 for those where nothing is certified."""

    abstained: Count
    """Images for which nothing was certified."""

    contradicted: list[Count] = Field(default_factory=list)
    """Rows of the test split that an attack broke inside their certified radius: none, unless something is wrong."""

    chance: _Share
    """Bound on the chance that there is any such image although nothing is wrong."""

    curve: list[CertifiedPoint]
    """Certified accuracy by radius, up to the largest."""

    @classmethod
    def of(cls, outcome: Outcome, how: Certification, sigma: float) -> CertifiedSection:
        """The certificates of a measured cell, with intervals of patients where these are known."""
        from robustbench_med.certification.bounds import largest_radius
        from robustbench_med.certification.settings import REVISION

        radii, largest = outcome.certified["radius"], largest_radius(how.n, how.alpha, sigma)
        right = outcome.clean.correct(outcome.labels)[0]
        curve = []
        for step in range(POINTS + 1):
            at = largest * step / POINTS
            # The last point is the radius of images without a dissenting sample, up to rounding.
            rate = Rate.of((right & (radii >= at * (1 - 1e-9))).float().tolist(), outcome.patients)
            low, high = interval(rate) if outcome.codes else wilson(rate)
            curve.append(CertifiedPoint(radius=at, accuracy=rate.hits / rate.n, low=low, high=high))
        return cls(
            sigma=sigma,
            n0=how.n0,
            n=how.n,
            alpha=how.alpha,
            revision=REVISION,
            largest=largest,
            median=float(radii.median()),
            abstained=int((radii == 0).sum()),
            contradicted=outcome.index[outcome.certified["contradicted"]].tolist(),
            chance=min(1.0, 2 * how.alpha * len(radii)),
            curve=curve,
        )

    def warnings(self) -> list[str]:
        """A line for the diagnostics, where a certificate was contradicted."""
        if not self.contradicted:
            return []
        rows = ", ".join(map(str, self.contradicted[:10])) + (" ..." if len(self.contradicted) > 10 else "")
        return [
            f"CONTRADICTION: {plural(len(self.contradicted), 'image')} (of the rows of the test split: {rows}) broken "
            f"inside a certified radius; chance makes that happen with probability {self.chance:.2g} at most"
        ]
