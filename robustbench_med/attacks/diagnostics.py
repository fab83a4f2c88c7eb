"""Is the attack strong enough to be believed, and the system sound? Figures and flags from controls and outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from robustbench_med.attacks.controls import Controls
from robustbench_med.attacks.flags import FLAGS, LIMITS
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.results import Outcome, RungResult
from robustbench_med.interfaces.tasks import decode

#: Images of other classes that a constant answer must have got wrong to be called one.
OTHERS = 3
#: A fall of the robust accuracy in the last round of an attack that is more than chance, besides two images.
FALLING = 0.02
#: Rungs that see less than those before them.
LESS_ACCESS = ("query", "transfer", "insider")


def report(
    level: str,
    outcome: Outcome,
    metrics: dict[str, Any],
    controls: Controls,
    seconds: float,
    goal: str = "untargeted",
) -> dict[str, Any]:
    """The ``diagnostics`` of a record: level, figures, raised flags, and what they cost in seconds.

    A ``goal`` that names the lesion chooses images of some classes, so that the others are not missed.
    """
    figures = _figures(outcome, controls) | {"judged_otherwise": _judged_otherwise(outcome, controls, goal)}
    absent = _absent(outcome) if goal == "untargeted" else []
    raised = _raised(outcome, metrics, controls, figures) | ({"class-absent"} if absent else set())
    return {
        "level": level,
        "figures": figures,
        "flags": [flag for flag in FLAGS if flag in raised],
        "notes": [
            *_counted(outcome),
            *([f"no test image of class {', '.join(map(str, absent))}"] if absent else []),
            *controls.notes,
        ],
        "seconds": seconds,
    }


def _figures(outcome: Outcome, controls: Controls) -> dict[str, float | None]:
    calls = sum(int(rung.backward_calls.sum()) for rung in outcome.rungs)
    # NaN where a part of the defense answers so.
    spreads = [rung.spread for rung in outcome.rungs if rung.spread is not None and math.isfinite(rung.spread)]
    figures: dict[str, float | None] = {
        "zero_gradients": _ratio(sum(int(rung.zero.sum()) for rung in outcome.rungs), calls),
        "undefined_gradients": _ratio(sum(int(rung.broken.sum()) for rung in outcome.rungs), calls),
        "loss_not_rising": _ratio(*_flat(outcome.rungs)),
        "logit_spread": max(spreads, default=None),
        "noise_accuracy": _ratio(controls.noise, controls.n),
        "control_clean_accuracy": _ratio(controls.clean, controls.n),
        "unstable": _ratio(controls.unstable, controls.n),
        "withstood_huge_eps": _ratio(controls.withstood, controls.huge),
        "batch_dependent": _ratio(controls.batch_dependent, controls.batches),
        "mode_dependent": _ratio(controls.mode_dependent, controls.modes),
        **figures_of_answers(outcome),
    }
    for name, (n, robust) in (controls.again or {}).items():
        figures[f"robust_{name}"] = robust / n
    return figures


def figures_of_answers(outcome: Outcome) -> dict[str, float | None]:
    """Figures that follow from the labels and the answers."""
    return {
        "not_finite_clean": float(outcome.clean.not_finite.float().mean()),
        "not_finite_attacked": float(outcome.attacked.not_finite.float().mean()),
        "chance_accuracy": _chance(outcome.labels),
    }


def flags_of_answers(outcome: Outcome) -> dict[str, bool]:
    """Flags that follow from the labels and the answers."""
    return {
        "above-clean": _above_clean(outcome),
        "not-finite": bool(outcome.clean.not_finite.any() or outcome.attacked.not_finite.any()),
        "constant-answer": any(map(_constant, [outcome, *map(outcome.at, sorted(set(outcome.sites)))])),
        "clean-at-chance": _at_chance(outcome, _chance(outcome.labels)),
    }


def _flat(rungs: Sequence[RungResult]) -> tuple[int, int]:
    """Images whose margin never rose above its first value, and images attacked with more than one gradient."""
    flat = could = 0
    for rung in rungs:
        open_ = rung.attacked & (rung.first <= 0) & rung.first.isfinite() & (rung.backward_calls > 1)
        could += int(open_.sum())
        flat += int((open_ & (rung.top <= rung.first)).sum())
    return flat, could


def _raised(
    outcome: Outcome, metrics: dict[str, Any], controls: Controls, figures: dict[str, float | None]
) -> set[str]:
    def above(name: str, limit: float) -> bool:
        value = figures.get(name)
        return value is not None and value > limit

    n = len(outcome.labels)
    flags = {
        **{flag: above(*limit) for flag, limit in LIMITS.items()},
        **flags_of_answers(outcome),
        "no-gradient": controls.blocked > 0 or any("no gradient" in rung.reason for rung in outcome.rungs),
        # At least three images and 3 %: rounding and chance do less.
        "noise-hurts": controls.clean - controls.noise >= max(3, 0.03 * controls.n),
        "probabilities": any(rung.probabilities for rung in outcome.rungs),
        "blind-detector": is_blind(metrics.get("detector_auroc"), n),
        "black-box-wins": _black_box_wins(outcome.rungs) >= max(2, 0.02 * n),
        "still-falling": _still_falling(outcome.rungs) > max(2 / n, FALLING),
        "budget-exhausted": any(rung.exhausted for rung in outcome.rungs),
        "weights-not-finite": controls.weights > 0,
        "class-absent": controls.absent > 0,
    }
    if controls.again:
        asked = figures["robust_as_asked"] or 0.0
        slack = 2 / max(1, controls.again["as_asked"][0])
        half = figures.get("robust_half_eps")  # of a ball only
        flags["eps-not-monotone"] = (half is not None and asked > half + slack) or above(
            "robust_double_eps", asked + slack
        )
        flags["not-converged"] = "robust_double_steps" in figures and asked > (
            (figures["robust_double_steps"] or 0.0) + slack
        )
        flags["steps-help-defender"] = above("robust_double_steps", asked + slack)
        flags["restart-spread"] = abs(asked - (figures["robust_other_seed"] or 0.0)) > 2 * slack
    return {flag for flag, is_raised in flags.items() if is_raised}


def _are(bad: torch.Tensor) -> str:
    return "is" if int(bad.sum()) == 1 else "are"


def _counted(outcome: Outcome) -> list[str]:
    """How many answers are not finite."""
    sides = {"clean": outcome.clean.not_finite, "attacked": outcome.attacked.not_finite}
    return [
        f"{int(bad.sum())} of {plural(bad.numel(), 'answer')} to {side} images {_are(bad)} not finite"
        for side, bad in sides.items()
        if bad.any()
    ]


def _absent(outcome: Outcome) -> list[int]:
    """Classes without a test image; findings that no test image has, or every one."""
    if outcome.task == "multi-label":
        seen = decode(outcome.labels, outcome.num_classes)
        return [label for label in range(outcome.num_classes) if not seen[:, label].any() or seen[:, label].all()]
    there = set(outcome.labels.tolist())
    return [label for label in range(outcome.num_classes) if label not in there]


def _chance(labels: torch.Tensor) -> float | None:
    """Accuracy of always answering the most frequent class; None where all images have one class."""
    counts = torch.unique(labels, return_counts=True)[1]
    return None if len(counts) < 2 else float(counts.max() / counts.sum())


def _at_chance(outcome: Outcome, chance: float | None) -> bool:
    return chance is not None and float(outcome.clean.correct(outcome.labels).float().mean()) <= chance


def _constant(outcome: Outcome) -> bool:
    """One class for every image, though several images have another one."""
    given = outcome.clean.predictions[~outcome.clean.rejected & ~outcome.clean.not_finite]
    return len(given) > 0 and bool((given == given[0]).all()) and int((outcome.labels != given[0]).sum()) >= OTHERS


def _above_clean(outcome: Outcome) -> bool:
    """The robust accuracy lies above the clean one by more than two images."""
    right, left = outcome.clean.correct(outcome.labels), outcome.attacked.robust(outcome.labels)
    return float(left.float().mean()) > float(right.float().mean()) + 2 / len(outcome.labels)


def is_blind(auroc: float | None, n: int) -> bool:
    """Chance lies within two standard errors of the AUROC (Hanley & McNeil 1982, under the null hypothesis)."""
    return auroc is not None and n > 0 and auroc - 0.5 < 2 * math.sqrt((2 * n + 1) / (12 * n * n))


def _black_box_wins(rungs: Sequence[RungResult]) -> int:
    """Images broken by an attack that sees less, after one with gradients had been tried on them.

    ``query`` comes after every gradient rung, ``transfer`` and ``insider`` after ``oblivious`` (the
    classifier's own gradient).
    """
    won = 0
    for before, rung in pairwise(rungs):
        if rung.access in LESS_ACCESS and not rung.reason:
            won += int(((before.robust > 0) & (rung.robust == 0)).sum())
    return won


def _still_falling(rungs: Sequence[RungResult]) -> float:
    """By how much the last round of an attack with several rounds lowered the robust accuracy."""
    falls = [rung.robust_after.mean(0).diff()[-1:] for rung in rungs if rung.robust_after.shape[1] > 1]
    return max((-float(fall) for fall in torch.cat(falls)), default=0.0) if falls else 0.0


def _judged_otherwise(outcome: Outcome, controls: Controls, goal: str) -> float | None:
    """Share of images whose final answer is right where it was wrong when the attacks were judged, or the reverse.

    A system without noise answers the same image the same. None where it draws some, where no attack was judged (of a
    single one the images are taken as they are), and for goals that count only some wrong answers.
    """
    judged = len(outcome.rungs) > 1 or outcome.rungs[0].robust_after.shape[1] > 0
    whole = goal == "untargeted" and outcome.task == "multi-class" and not outcome.certified
    if not (judged and whole and controls.n) or controls.noisy:
        return None
    robust = outcome.attacked.robust(outcome.labels)[0]
    return float((robust != (outcome.rungs[-1].robust > 0.5)).float().mean())


def _ratio(count: int, total: int) -> float | None:
    return count / total if total else None
