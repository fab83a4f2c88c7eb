"""What claim and probe mean, and what to run next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.markup import escape

from robustbench_med.cli.tables.records import client_of
from robustbench_med.files.escaping import shell_command
from robustbench_med.interfaces.plural import plural
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted


def explain(records: Sequence[Record], samples: Path) -> Iterator[str]:
    """What claim and probe mean, and what to run next; nothing where the user chose the rungs.

    ``samples`` is the folder of per-image results: the gap is taken over the images that both attacks saw.
    """
    claims = {_key(r): r for r in records if r.role == "claim" and r.status == "ok"}
    probes = [r for r in records if r.role == "probe" and r.status == "ok"]
    if claims:
        yield (
            "[bold]oblivious[/]: the attacker sees the classifier only and does not know the defense "
            "(the setting most papers report)."
        )
    if probes:
        yield (
            f"[bold]probe[/]: a quick ladder of adversaries who know more and more of the defense; "
            f"{plural(probes[0].n, 'image')} and few steps, so it can only show a weakness, never its absence."
        )
    for probe in probes:
        claim = claims.get(_key(probe))
        if claim is None:
            continue
        if not all((samples / f"{record.cell_id}.parquet").is_file() for record in (claim, probe)):
            continue  # records that came without their samples
        claimed, probed = on_the_same_images(claim, probe, samples)
        gap = 100 * (claimed - probed)
        verdict = f"a gap of [bold]{gap:.1f} points[/]" if gap > 0 else "[bold]no gap found[/], which proves little"
        name = escape(formatted(claim.defense))
        same = f"on the same {plural(probe.n, 'image')} claim {100 * claimed:.1f} %, probe {100 * probed:.1f} %"
        yield f"{name}: {same}: {verdict}."
        yield f"[dim]more: {escape(_again(claim))} --access ladder:full[/]"


def _again(record: Record) -> str:
    """The command that measures this defense with these weights."""
    options = {"dataset": formatted(record.dataset), "defense": formatted(record.defense), **record.defense.asked}
    if record.dataset.partition:
        options["partition"] = record.dataset.partition
    words = [word for name, text in options.items() for word in (f"--{name}", text)]
    words += [word for site in record.unseen for word in ("--unseen-site", site)]
    return shell_command(["rbmed", "run", *words])


def on_the_same_images(claim: Record, probe: Record, samples: Path) -> tuple[float, float]:
    """Robust accuracy of both cells over the images of the probe, each a mean over noise draws."""
    import pandas as pd

    frames = [pd.read_parquet(samples / f"{record.cell_id}.parquet") for record in (claim, probe)]
    shared = [frame[frame["index"].isin(frames[1]["index"])] for frame in frames]
    safe = [(frame.attacked_prediction == frame.label) | frame.attacked_rejected for frame in shared]
    return float(safe[0].mean()), float(safe[1].mean())


def _key(record: Record) -> tuple[str, ...]:
    """What a claim and its probe have in common."""
    facts = (record.dataset.digest, formatted(record.defense), record.defense.weights.digest)
    threat = record.threat
    ball = (threat.norm, threat.eps, threat.goal, threat.finding)
    return tuple(map(str, (*facts, *ball, record.seed, record.unseen, client_of(record))))
