"""How much is drawn for a certificate, and of which defenses there is one. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_med.errors import BadParameter

if TYPE_CHECKING:
    from robustbench_med.defenses.resolved import ResolvedDefense

#: Raised when the same samples would be drawn or counted differently.
REVISION = 1
NO_PURIFIER = "it has no purifier that adds Gaussian noise"


@dataclass(frozen=True)
class Certification:
    """How much is drawn for a certificate.

    Attributes:
        n0: samples that choose the class.
        n: further samples that bound its probability. Smoothed answers to attacked images take n0 samples, and where
            these are not clear n more.
        alpha: chance that the certificate of an image does not hold, and that a smoothed answer is not the class that
            is most likely under the noise.
    """

    n0: int = 100
    n: int = 1000
    alpha: float = 0.001

    @property
    def facts(self) -> list[object]:
        """All that numbers depend on."""
        return ["randomized smoothing", REVISION, self.n0, self.n, self.alpha]


def check_certifiable(defense: ResolvedDefense, named: str, norm: str) -> None:
    """Raise `BadParameter` for a defense that randomized smoothing says nothing about, or another norm than L2."""
    purifier = defense.purifier
    if purifier is None:
        reason = NO_PURIFIER
    elif purifier.sigma is None:
        reason = f"its purifier {purifier.spec_name!r} is no randomized smoothing"
    elif defense.detector is not None:
        reason = "its detector decides which images the noise is added to"
    elif norm != "l2":
        raise BadParameter(f"--certify: certificates are radii in l2, not in {norm}; use --norm l2")
    else:
        return
    raise no_certificate(named, reason)


def no_certificate(named: str, reason: str) -> BadParameter:
    """The error for a defense without a certificate."""
    return BadParameter(
        f"--certify: {named} has no certificate: {reason}; use --defense smoothed:sigma=0.25, or a purifier such as "
        "smoothed behind any classifier"
    )
