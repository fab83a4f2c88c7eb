"""Do the flags of a record follow from the figures of its diagnostics and its per-image results? Nothing is run."""

from __future__ import annotations

import math
from collections.abc import Iterator

from robustbench_med.attacks.diagnostics import figures_of_answers, flags_of_answers
from robustbench_med.attacks.flags import FLAGS, LIMITS
from robustbench_med.interfaces.results import Outcome
from robustbench_med.leaderboard.sources.consistency import TOLERANCE
from robustbench_med.records.record import Record


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
    wanted = {name: figures.get(name) for name, _ in LIMITS.values()}
    if record.dataset.task != "multi-label":  # answers are sets of findings there
        true |= flags_of_answers(outcome)
        wanted |= figures_of_answers(outcome)
    for name, value in wanted.items():
        if name not in figures:
            if not older:
                yield f"the diagnostics lack the figure {name}"
        elif not _same(figures[name], value):
            yield f"{name} of the diagnostics is {figures[name]}, and {value} follows from the per-image results"
    for flag, raised in true.items():
        if raised != (flag in said):
            yield f"flag {flag} is {'raised' if flag in said else 'not raised'}, against figures and per-image results"


def _same(one: float | None, two: float | None) -> bool:
    return one == two or (one is not None and two is not None and math.isclose(one, two, abs_tol=TOLERANCE))
