"""What the adversary may do (`ThreatModel`), how much work it may spend (`Budget`), and the check of both.

Nothing here imports torch: configurations, records and the leaderboard use the same class as attacks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from robustbench_med.errors import BadParameter, OutsideThreatModel, UsageError, near
from robustbench_med.interfaces.plural import plural
from robustbench_med.plugins.references import FIRST, fraction, parse
from robustbench_med.plugins.specs import ACCESS, FAMILIES, NORMS

if TYPE_CHECKING:
    from torch import Tensor

#: What the adversary wants: any wrong answer; a lesion overlooked, or seen where there is none; of an ordinal task a
#: grade more than one away from the true one, or the grade farthest from it.
Goal = Literal["untargeted", "hide-lesion", "fake-lesion", "distant", "farthest"]
GOALS: tuple[Goal, ...] = ("untargeted", "hide-lesion", "fake-lesion", "distant", "farthest")

#: The largest severity of a corruption.
SEVEREST = 5

IN_RANGE = "images are in [0, 1]"

#: Letters and digits of other ways to write a norm: inf, L-inf, l_2.
_OTHER_NORMS = {
    **dict.fromkeys(("inf", "linf", "infinity", "linfinity", "l∞", "∞", "max"), "linf"),
    **{f"{prefix}{p}": f"l{p}" for prefix in ("", "l") for p in (1, 2)},
}


def norm_of(text: str) -> str:
    """The norm, or family of changes, that a text names: ``L-inf`` and ``inf`` are ``linf``; others in lower case."""
    plain = "".join(char for char in text.lower() if char.isalnum() or char == "∞")
    return _OTHER_NORMS.get(plain, text.lower().strip())


def _meant(eps: float, most: float) -> str:
    """The part of a message that suggests the same number of steps of 8-bit images, where that is possible."""
    return f"; did you mean {eps:g}/255?" if eps / 255 <= most else ""


#: Other words for what an attacker sees, and the rungs that are meant.
OTHER_WORDS = {
    "whitebox": "full (the exact gradient of the whole defense), or bpda where a part has no gradient",
    "adaptive": "full, bpda or gate (they see the defense), or all in turn: ladder:quick",
    "greybox": "oblivious (the classifier is known, the defense is not)",
    "blackbox": "query (scores of the whole system), or transfer (another classifier is known)",
}
OTHER_WORDS["graybox"] = OTHER_WORDS["greybox"]


def one_label(finding: str, dataset: str) -> BadParameter:
    """The error for a finding of a data set whose images have one label each."""
    return BadParameter(f"--finding {finding}: data set {dataset!r} has one label for each image; leave it out")


def unknown_access(access: str) -> str:
    """The message for a rung that does not exist, with the one that may be meant."""
    meant = OTHER_WORDS.get("".join(filter(str.isalpha, access.lower())))
    hint = f"; it is here called {meant};" if meant else near(access, ACCESS)
    return f"unknown access {access!r}{hint} valid: {', '.join(ACCESS)}, ladder"


@dataclass(frozen=True)
class Budget:
    """How much an attack may spend on one image. ``None`` means no limit.

    Attributes:
        gradients: forward-backward passes per image; each EOT draw counts.
        queries: forward passes per image; each EOT draw counts.
    """

    gradients: int | None = None
    queries: int | None = None


@dataclass(frozen=True)
class ThreatModel:
    """What the adversary may do.

    Attributes:
        norm: ``linf``, ``l2`` or ``l1``, measured in pixel space with images in [0, 1]; or a family of changes that is
            no ball: ``corruption``, with a severity from 1 to 5 as eps, or ``acquisition``, with a share of physical
            limits. Of a family only the range [0, 1] can be checked; that an image belongs to it is up to its attack.
        eps: radius of the ball, > 0 (``4/255`` for Linf, at most 1; L2 and L1 are over the whole image).
        access: what the adversary sees, a rung of the access ladder.
        goal: ``untargeted``: any wrong answer counts. ``hide-lesion`` attacks images with a lesion only, towards the
            other classes; ``fake-lesion`` images without one, towards the lesion. Of an ordinal task ``distant`` is a
            grade more than one away, and ``farthest`` the farther end of the scale.
        finding: of a multi-label task, the finding that is attacked, and asked about; empty: any of them.
    """

    norm: str = "linf"
    eps: float = 4 / 255
    access: str = "oblivious"
    goal: str = "untargeted"
    finding: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", norm_of(str(self.norm)))
        for name in ("access", "goal"):
            object.__setattr__(self, name, str(getattr(self, name)).lower())
        if self.norm not in (*NORMS, *FAMILIES):
            raise UsageError(f"unknown norm {self.norm!r}; valid: {', '.join((*NORMS, *FAMILIES))}")
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise UsageError(f"eps must be > 0 and finite, such as 4/255, not {self.eps!r}")
        if self.norm == "linf" and self.eps > 1:
            raise UsageError(f"eps {self.eps:g} is too large for linf: {IN_RANGE}{_meant(self.eps, 1)}")
        if self.norm == "corruption" and self.eps > SEVEREST:
            raise UsageError(f"a severity is at most {SEVEREST}, not {self.eps:g}")
        if self.norm == "acquisition" and self.eps > 1:
            raise UsageError(f"a share of physical limits is at most 1, not {self.eps:g}: beyond is no scan")
        if self.access not in (*ACCESS, "ladder"):
            raise UsageError(unknown_access(self.access))
        if self.goal not in GOALS:
            raise UsageError(f"unknown goal {self.goal!r}; valid: {', '.join(GOALS)}")

    @classmethod
    def parse(cls, written: str | Mapping[str, Any]) -> ThreatModel:
        """Read norm, eps, goal and finding from ``linf:4/255``, ``l2:0.5,goal=hide-lesion`` or a table of these keys.

        Raises:
            UsageError: a key is missing or unknown, or a value is not valid.
        """
        if isinstance(written, str):
            ref = parse(written)
            given = {"norm": ref.name, **{key if key != FIRST else "eps": text for key, text in ref.params.items()}}
        else:
            given = dict(written)
        more = {name: str(value) for name, value in given.items() if name in ("goal", "finding")}
        if not {"norm", "eps"} <= set(given) <= {"norm", "eps", "goal", "finding"}:
            raise BadParameter(
                "a threat has a norm, an eps and, if wanted, a goal or a finding: linf:4/255 or l2:0.5,goal=hide-lesion"
            )
        return cls(str(given["norm"]), fraction(str(given["eps"])), **more)

    @property
    def is_ball(self) -> bool:
        """It is a ball in a norm, and no family of changes."""
        return self.norm in NORMS

    @property
    def facts(self) -> dict[str, Any]:
        """Its attributes, for records and ids; without a finding where none is named, as before there were any."""
        facts = asdict(self)
        if not self.finding:
            del facts["finding"]
        return facts

    def check_eps(self, pixels: int) -> None:
        """Raise `UsageError` if the ball around any image of so many values holds the same grey image.

        No classifier is right about that one for every class, so no figure would mean anything. Linf has a limit of its
        own, 1, since a trigger is a few pixels of any value.
        """
        if self.norm == "linf" or not self.is_ball:
            return
        most = 0.5 * (math.sqrt(pixels) if self.norm == "l2" else pixels)
        if self.eps > most:
            raise UsageError(
                f"eps {self.eps:g} is too large for {self.norm}: {IN_RANGE}, and these have {pixels} values, so that "
                f"each lies within {most:g} of the same grey image{_meant(self.eps, most)}"
            )

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance per image, shape (N,), between two batches of shape (N, C, H, W); of a family in L2."""
        delta = (a - b).flatten(1)
        size: Tensor = delta.norm(p={"linf": math.inf, "l1": 1}.get(self.norm, 2), dim=1)
        return size

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Images near ``x_adv`` inside the ball and [0, 1]: the nearest of the ball, then of the range.

        Of a family, those of the range.
        """
        if not self.is_ball:
            return x_adv.clamp(0, 1)
        delta = x_adv - x
        if self.norm == "linf":
            delta = delta.clamp(-self.eps, self.eps)
        elif self.norm == "l1":
            delta = _onto_l1(delta.flatten(1), self.eps).view_as(delta)
        else:
            length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
            delta = delta * (self.eps / length).clamp_max(1).view(-1, *[1] * (x.dim() - 1))
        return (x + delta).clamp(0, 1)

    def _slack(self, tolerance: float) -> float:
        """By how much rounding may take an image out of the ball."""
        return tolerance * {"linf": 1.0, "l2": max(1.0, self.eps), "l1": 10 * max(1.0, self.eps)}[self.norm]

    def allows(self, x_adv: Tensor, x: Tensor, tolerance: float = 1e-5) -> Tensor:
        """bool (N,): which images `check` would let pass; on the device, without reading back."""
        flat = x_adv.flatten(1)
        ranged = (flat.amin(1) >= -tolerance) & (flat.amax(1) <= 1 + tolerance)  # False for NaN
        if not self.is_ball:
            return ranged
        return ranged & (self.distance(x_adv, x) <= self.eps + self._slack(tolerance))

    def check(self, x_adv: Tensor, x: Tensor, tolerance: float = 1e-5) -> None:
        """Raise `OutsideThreatModel` if any image is not finite, or outside the ball or the range [0, 1].

        ``tolerance`` covers float32 rounding: absolute for Linf and the range, relative to eps for L2, ten times that
        for L1, which adds up the rounding of every pixel.
        """
        if x_adv.shape != x.shape:
            raise OutsideThreatModel(f"the attack returned shape {tuple(x_adv.shape)} for images of {tuple(x.shape)}")
        bad = ~x_adv.flatten(1).isfinite().all(1)
        if bad.any():
            raise OutsideThreatModel(
                f"{plural(int(bad.sum()), 'adversarial image holds', 'adversarial images hold')} values "
                "that are not finite"
            )
        low, high = float(x_adv.min()), float(x_adv.max())
        if low < -tolerance or high > 1 + tolerance:
            raise OutsideThreatModel(f"adversarial images span [{low:.4g}, {high:.4g}], outside [0, 1]")
        if not self.is_ball:
            return
        worst = float(self.distance(x_adv, x).max())
        if worst > self.eps + self._slack(tolerance):
            raise OutsideThreatModel(f"an image lies {worst:.4g} away in {self.norm}, eps is {self.eps:.4g}")


def _onto_l1(delta: Tensor, eps: float) -> Tensor:
    """The nearest points, (N, D), of the L1 ball of radius ``eps`` (Duchi et al. 2008)."""
    size = delta.abs()
    ordered = size.sort(dim=1, descending=True).values
    counts = size.new_ones(size.shape[1]).long().cumsum(0)  # 1, 2, ..., D
    excess = (ordered.cumsum(1) - eps) / counts
    # The largest number of entries that stay above the common amount taken off each of them.
    last = (ordered > excess).sum(1, keepdim=True).clamp_min(1) - 1
    shrink = excess.gather(1, last).clamp_min(0)
    return delta.sign() * (size - shrink).clamp_min(0)
