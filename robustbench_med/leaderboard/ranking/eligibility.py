"""Whether a row may have a rank; if not, each reason is one line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache

from robustbench_med.defenses.gate_revision import GATE_REVISION
from robustbench_med.grid.ladder import PRESETS, REVISION
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.ranking.pool import cells, gaps
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted

#: Flags that say the measurement itself does not hold; all others are marks on figures that remain valid.
BROKEN = {
    "survives-huge-eps": "a control failed: images were robust to an attack that may turn them into anything",
    "unstable": "a control failed: the same image and noise got two answers",
    "certificate-contradicted": "an attack broke images inside their certified radius",
}
#: Shares are means of counts; rounding must not fail a record.
SLACK = 1e-6
#: By how much a share may rise from rung to rung where it is judged on noise.
NOISE = 0.1
#: Fresh noise draws on which a ranked system with noise is scored: what a run that names none has.
DRAWS = 3
#: Gradients through the whole system that a ranked row of a system with noise has spent on its most robust images.
LEAST = 100


def faults(records: Sequence[Record]) -> Iterator[str]:
    """Why a row made of these records, one for each training seed, has no rank."""
    for record in records:
        yield from gaps(record)
        for each in cells([record]) if record.status == "ok" else [record]:
            yield from record_faults(each)


def record_faults(record: Record) -> Iterator[str]:
    """Why a row with this record has no rank."""
    if record.dataset.task == "multi-label" or record.threat.finding:
        yield "boards rank tasks of one answer for each image; this data set has several findings"
    if record.status == "failed":
        yield f"the measurement failed: {record.reason or 'no reason is given'}"
    elif record.status == "skipped":
        yield f"not measured: {record.reason or 'no reason is given'}"
    elif record.attack.is_control:
        yield f"only a control was run, no attack: {record.attack.name}"
    elif not record.attack.is_ladder:
        yield f"only one kind of attacker was tried ({record.threat.access}): the ladder was not run"
    else:
        before = list(earlier(record))
        yield from before
        yield from broken(record)
        if not before:  # another ladder had other rungs
            yield from missing_rungs(record)
        if record.role == "probe":
            yield f"a probe on {plural(record.n, 'image')}, which can show a weakness but not its absence"


def earlier(record: Record) -> Iterator[str]:
    """With what earlier revision it was measured, so that no one can run the cell again with today's code."""
    revision, gate = record.attack.revision, record.defense.parts.gate_revision
    if record.attack.is_ladder and revision != REVISION:
        yield f"measured with revision {revision} of the ladder, which this version does not run; it has {REVISION}"
    if record.defense.parts.detector and gate != GATE_REVISION:
        yield f"its threshold follows revision {gate} of the rule; this version has {GATE_REVISION}"


def single_faults(records: Sequence[Record], outcomes: Sequence[ImageResults | None]) -> Iterator[str]:
    """Why a row made of single rungs has no rank: which attackers were not tried, or cannot be combined."""
    if all(record.attack.is_control for record in records):
        yield from (fault for record in records for fault in record_faults(record))
        return
    tried = {record.threat.access for record in records}
    wanted = ["oblivious", "query"]
    parts = records[0].defense.parts
    if parts.detector or parts.purifier:
        wanted += ["bpda", "full"]
    wanted += ["gate"] if parts.detector else []
    if missing := [access for access in wanted if access not in tried]:
        yield f"the ladder was not run: {', '.join(missing)} not tried"
    elif any(outcome is None for outcome in outcomes):
        yield "the rungs cannot be combined image by image: per-image results are missing"
    for record in records:
        yield from gaps(record)
        for each in cells([record]) if record.status == "ok" else [record]:
            yield from broken(each) if each.status == "ok" else record_faults(each)


def broken(record: Record) -> Iterator[str]:
    """Invariants that a measured record does not keep."""
    if record.diagnostics.level == "off":
        yield "no controls were run beside the attacks (--diagnostics off)"
    for flag in record.diagnostics.flags:
        if flag in BROKEN:
            yield BROKEN[flag]
    if record.n == 0:
        yield "no image was attacked"
    clean, robust = (record.metrics.get(f"{side}_accuracy") for side in ("clean", "robust"))
    if clean is None or robust is None:
        yield "accuracy, clean or under attack, is missing"
    left = [rung.withstanding for rung in record.rungs if rung.withstanding is not None]
    # The choice between images is judged anew on fresh noise, so that shares of a system with noise waver.
    slack = NOISE if record.defense.randomized else SLACK
    if any(later > earlier + slack for earlier, later in itertools.pairwise(left)):
        yield "more images are robust after a later rung than after an earlier one"
    if any(not math.isfinite(spent) or spent < 0 for _, spent in record.spent if spent is not None):
        yield "the calls of the attacks are no counts"
    yield from contradictions(record)


def missing_rungs(record: Record) -> Iterator[str]:
    """Rungs that are missing in the record of a ladder."""
    preset = PRESETS.get(record.attack.preset)
    if preset is None:
        yield f"there is no ladder {record.attack.preset!r}" if record.attack.preset else "its attacks are of no ladder"
        return
    if record.limit is not None and (preset.limit is None or record.limit < preset.limit):
        yield f"run on {plural(record.n, 'image')}; this ladder requires {preset.limit or 'all'}"
    if record.attack.named:
        yield f"the ladder was run with {record.attack.named} in place of its own attacks"
    yield from unfinished(record)
    yield from shortened(record)
    named = {rung.access for rung in record.rungs}
    ran = {rung.access for rung in record.rungs if rung.withstanding is not None}
    for access in dict.fromkeys(rung.access for rung in preset.rungs):
        if access not in named:
            yield f"the rung {access} is not accounted for"
        elif access in ("oblivious", "query") and access not in ran:
            yield f"the rung {access} was not run"
    parts = record.defense.parts
    if parts.purifier and not ran & {"bpda", "full"}:
        yield "no attack with gradients went through the purifier"
    if parts.detector and not parts.purifier and not ran & {"bpda", "full", "gate"}:
        yield "no attack with gradients saw the detector"


def unfinished(record: Record) -> Iterator[str]:
    """Why the attacks on a system with noise had not done enough when they ended."""
    if not record.defense.randomized:
        return
    if record.draws < DRAWS:
        yield f"scored on {plural(record.draws, 'noise draw')}, fewer than {DRAWS}: by chance they may be good ones"
    if record.attack.preset == "quick":
        yield "the quick ladder shows where a system with noise gives way, not how much it withstands"
    spent = max((rung.gradients_max for rung in record.rungs if rung.access in ("bpda", "full")), default=0)
    if record.defense.parts.purifier and (record.metrics.get("robust_accuracy") or 0) > 0 and spent < LEAST:
        yield f"{spent} gradients through the purifier for the most robust image, fewer than {LEAST}"


def shortened(record: Record) -> Iterator[str]:
    """Attacks of a ladder that did less than it says, going by rounds and calls.

    On a classifier alone an image that withstands an attack has cost it every step. Elsewhere an attack may end early,
    where it broke what its rung sees.
    """
    planned = _rounds(record.attack.preset)
    params = {f"{rung.access} {formatted(rung)} {rung.evasion}".strip(): rung.params for rung in record.attack.rungs}
    bare = not (record.defense.parts.detector or record.defense.parts.purifier)
    for rung in record.rungs:
        if rung.reason or not rung.withstanding:
            continue
        rounds = planned.get(rung.rung, 0)
        if len(rung.rounds) < rounds:
            yield f"{rung.rung} ran {len(rung.rounds)} of {plural(rounds, 'round')}, and images were left"
        left, asked = rung.attacked - (rung.broken or 0), params.get(rung.rung, {})
        if not bare or not left or record.budget.limits:
            continue
        if rung.access == "oblivious" and rung.gradients_max < _whole(asked.get("steps")):
            yield (
                f"{rung.rung} spent {plural(rung.gradients_max, 'gradient')} on an image that it left, "
                f"not {asked['steps']}"
            )
        if rung.access == "query" and rung.queries_mean * rung.attacked < left * _whole(asked.get("queries")) - SLACK:
            yield f"{rung.rung} spent {rung.queries_mean:.6g} queries on an image, fewer than those that it left cost"


@cache
def _rounds(preset: str) -> dict[str, int]:
    """By rung of a ladder, how often its attack runs at least."""
    found: dict[str, int] = {}
    for rung in PRESETS[preset].rungs:
        found[rung.name] = min(rung.rounds, found.get(rung.name, rung.rounds))
    return found


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
