"""Do the flags of a record follow from its diagnostics, rungs and per-image results? Nothing is run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from robustbench_med.attacks.controls import CONTROL_SHARE
from robustbench_med.attacks.diagnostics import FALLING, LESS_ACCESS, figures_of_answers, flags_of_answers, is_blind
from robustbench_med.attacks.flags import FLAGS, LIMITS
from robustbench_med.interfaces.results import Outcome
from robustbench_med.leaderboard.sources.consistency import TOLERANCE
from robustbench_med.records.record import Record

#: Figures that came after the published records of this format. Who leaves one out hides its flag until a rerun.
LATER = frozenset({"mode_dependent", "judged_otherwise"})


def flag_faults(record: Record, outcome: Outcome, older: bool) -> Iterator[str]:
    """What is wrong with the diagnostics of a record with these answers, a line each.

    ``older``: records that lack figures which came later are taken.
    """
    said, figures = set(record.diagnostics.flags), record.diagnostics.figures
    if unknown := sorted(said - FLAGS.keys()):
        yield f"there is no flag {unknown[0]!r}"
    if record.diagnostics.level == "off":
        return
    true = {flag: (figures.get(name) or 0.0) > limit for flag, (name, limit) in LIMITS.items()}
    true |= {"blind-detector": is_blind(record.metrics.get("detector_auroc"), record.n), **_of_rungs(record)}
    wanted = {name: figures.get(name) for name, _ in LIMITS.values()}
    if record.dataset.task != "multi-label":  # answers are sets of findings there
        true |= flags_of_answers(outcome)
        wanted |= figures_of_answers(outcome)
        yield from _controls(record, outcome)
    for name, value in wanted.items():
        if name not in figures:
            if not older and name not in LATER:
                yield f"the diagnostics lack the figure {name}"
        elif not _same(figures[name], value):
            yield f"{name} of the diagnostics is {figures[name]}, and {value} follows from the per-image results"
    for flag, raised in true.items():
        if raised != (flag in said):
            yield f"flag {flag} is {'raised' if flag in said else 'not raised'}, against figures and per-image results"


def _of_rungs(record: Record) -> dict[str, bool]:
    """Flags that follow from what the rungs of a ladder broke, round by round."""
    if not record.attack.is_ladder or record.attack.revision == 1:
        return {}
    ran = [rung for rung in record.rungs if not rung.reason]
    lasts = [rung.rounds[-2:] for rung in ran if len(rung.rounds) > 1]
    fall = max((before.withstanding - after.withstanding for before, after in lasts), default=0.0)
    found = {"still-falling": fall > max(2 / max(record.n, 1), FALLING)}
    if not record.defense.randomized:  # shares of a system with noise waver from rung to rung
        won = sum(rung.broken or 0 for rung in ran[1:] if rung.access in LESS_ACCESS)
        found["black-box-wins"] = won >= max(2, 0.02 * record.n)
    return found


def _controls(record: Record, outcome: Outcome) -> Iterator[str]:
    """The accuracy on the images under the controls, and whether noise lowers it."""
    figures, quota = record.diagnostics.figures, _under_controls(record)
    clean, noise, n = figures.get("control_clean_accuracy"), figures.get("noise_accuracy"), sum(quota.values())
    if clean is None or noise is None or not n:
        return
    right, noisy = round(clean * n), round(noise * n)
    if not (_same(clean, right / n) and _same(noise, noisy / n)):
        yield f"accuracies of the controls are {clean:g} and {noise:g}, which are no shares of {n} images"
    if (right - noisy >= max(3, 0.03 * n)) != ("noise-hurts" in record.diagnostics.flags):
        yield f"{right} of {n} images are right, {noisy} with noise on them, and flag noise-hurts says otherwise"
    if record.defense.randomized or outcome.clean.rejected.any():
        return  # answered with other noise, or before the detector withheld the answer
    correct, true = outcome.clean.correct(outcome.labels)[0].tolist(), 0
    for site, hit in zip(outcome.sites, correct, strict=True):
        if quota.get(site, 0) > 0:
            quota[site] -= 1
            true += hit
    if right != true:
        yield f"control_clean_accuracy is {clean:g}, and {true} of these {n} images are answered right"


def _under_controls(record: Record) -> Counter[str]:
    """By client, how many of its images the controls look at; older records do not say how many it has."""
    images = {site: count for site, (count, _) in record.client_images.items()}
    return Counter({site: min(count, max(2, round(CONTROL_SHARE * count))) for site, count in images.items()})


def _same(one: float | None, two: float | None) -> bool:
    return one == two or (one is not None and two is not None and math.isclose(one, two, abs_tol=TOLERANCE))
