"""The rule that sets a detector's threshold, what is said of gates, and the file that keeps them."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from robustbench_med.defenses.pipeline import Gate
from robustbench_med.defenses.resolved import key_of
from robustbench_med.errors import StoreWarning, UsageError
from robustbench_med.files.atomic import write_text

#: Highest threshold as a share of the scores that are within reach at the decision boundary.
CAP = 0.5
#: How far a gate that was fixed on another machine may lie from one that is fixed here, as a share of the range of
#: clean scores.
ELSEWHERE = 0.01


def fix_gate(scores: Tensor, fpr: float, reach: float | None = None) -> Gate:
    """Threshold at the conformal rank of clean scores; the strength map spans their range.

    The threshold is the score of rank ``ceil((n + 1) * (1 - fpr))`` of ``n``, so that a new clean image of the same
    kind is flagged with a probability of at most ``fpr`` (Vovk et al. 2005, Algorithmic Learning in a Random World;
    Angelopoulos & Bates 2021, arXiv 2107.07511). Where there are fewer than ``1 / fpr - 1`` images no score has that
    rank: the highest takes its place, and `too_few` says so.

    The published map normalises scores within a test batch, so that a result depends on the rest of the batch. Here
    scores are normalised by the range of the clean calibration scores. Scores that are not finite are left out.

    Where the detector's scores have a bound at the decision boundary, ``reach`` (`Detector.reach`), the threshold is at
    most `CAP` of it, whatever that does to the share of false alarms: under a higher one an attack passes by answers
    that are barely wrong.

    Raises:
        UsageError: no score is finite.
    """
    known = scores[scores.isfinite()]
    if not len(known):
        raise UsageError(f"none of the detector's {len(scores)} scores of clean calibration images is finite")
    scores = known
    rank = min(conformal_rank(len(scores), fpr), len(scores))
    threshold = float(scores.sort().values[rank - 1])
    gate = Gate(threshold=threshold, low=float(scores.min()), high=float(scores.max()), images=len(scores))
    if reach is None or threshold <= CAP * reach:
        return gate
    return replace(gate, threshold=CAP * reach, uncapped=threshold)


def conformal_rank(images: int, fpr: float) -> int:
    """The rank from 1 of the score that is the threshold; above ``images`` where these are too few."""
    return max(1, math.ceil(round((images + 1) * (1 - fpr), 9)))  # 20 * 0.95 is not quite 19


def alike(one: Gate, two: Gate) -> bool:
    """Whether two gates were fixed on the same images, perhaps on different machines."""
    # Where all clean images have the same score, what is left is rounding.
    most = max(ELSEWHERE * (two.high - two.low), 1e-6 * max(abs(two.low), abs(two.high)), 1e-12)
    bounds = ((one.threshold, two.threshold), (one.low, two.low), (one.high, two.high))
    return one.absent == two.absent and all(abs(first - second) <= most for first, second in bounds)


def too_few(client: str, gate: Gate, fpr: float) -> str:
    """A line on a gate that was fixed on too few images for its share of false alarms; "" for others."""
    if not gate.images or conformal_rank(gate.images, fpr) <= gate.images:
        return ""
    needed = math.ceil(round(1 / fpr - 1, 9))
    return (
        f"{client}: {gate.images} calibration images are too few for a threshold that flags {100 * fpr:g} % of clean "
        f"images, which needs {needed}; the highest score is the threshold"
    )


def lowered(client: str, gate: Gate, fpr: float) -> str:
    """A line on a gate whose threshold was lowered; "" for others."""
    if gate.uncapped is None:
        return ""
    return (
        f"{client}: the threshold was lowered from {gate.uncapped:.3g} to {gate.threshold:.3g}, so that images with "
        f"barely wrong answers can be flagged; more than {100 * fpr:g} % of clean images are flagged"
    )


def read_gates(path: Path, key: str) -> dict[str, Gate]:
    """The gates by client that a file holds under ``key``; none where it is absent, of another key, or damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        facts, digest = stored["gates"], stored["digest"]
        if key_of(facts) != digest:
            raise ValueError("its digest differs")
        gates = {client: Gate(**gate) for client, gate in facts.items()}
        gates = {client: replace(gate, absent=tuple(map(int, gate.absent))) for client, gate in gates.items()}
        if not all(math.isfinite(bound) for gate in gates.values() for bound in (gate.threshold, gate.low, gate.high)):
            raise ValueError("a bound is not finite")
        return gates if stored["key"] == key else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"calibration {path} is damaged ({reason}); its gates are fixed anew", StoreWarning, stacklevel=3)
        return {}


def write_gates(path: Path, key: str, gates: Mapping[str, Gate]) -> None:
    """Keep gates by client under ``key``.

    Raises:
        StoreError: they cannot be written.
    """
    facts = {client: asdict(gate) for client, gate in gates.items()}
    write_text(path, json.dumps({"key": key, "digest": key_of(facts), "gates": facts}, indent=1) + "\n")
