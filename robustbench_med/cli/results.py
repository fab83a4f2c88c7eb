"""How records look in a terminal: one table, then what it means in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from robustbench_med.cli import style
from robustbench_med.flags import FLAGS
from robustbench_med.records import Record
from robustbench_med.table import spelled


def show(records: Sequence[Record]) -> Table:
    """The measured records as a table that fits 80 columns; figures in percent, ``worst`` is the worst client's."""
    right = ("clean", "robust [95%]", "worst", "FPR/TPR", "n")
    table = style.table("defense", "attack", "sees", *right, title=_title(records), right=right)
    table.padding = (0, 1, 0, 0)
    for record in records:
        if record.status == "ok":
            style.row(table, *_cells(record))
    return table


def unmeasured(records: Sequence[Record]) -> Iterator[str]:
    """A line for each cell that was skipped, and why."""
    for record in records:
        if record.status == "skipped":
            yield f"skipped: {name_of(record)}: {record.reason}"


def name_of(record: Record) -> str:
    """``defense / attack / access``."""
    return f"{_component(record.defense)} / {_attack(record)} / {record.threat['access']}"


def _title(records: Sequence[Record]) -> str:
    sets = sorted({_dataset(record) for record in records})
    threats = sorted({f"{record.threat['norm']} {_eps(record)}" for record in records})
    return f"{', '.join(sets)}   {', '.join(threats)}"


def _dataset(record: Record) -> str:
    return str(record.dataset["name"]) + (" (synthetic)" if record.dataset["synthetic"] else "")


def _eps(record: Record) -> str:
    """``4/255`` where that is what it is, else the number."""
    eps = float(record.threat["eps"])
    nearest = Fraction(eps * 255).limit_denominator(10)
    return f"{nearest}/255" if nearest.denominator == 1 and abs(float(nearest) / 255 - eps) < 1e-9 else f"{eps:.4g}"


def _attack(record: Record) -> str:
    """The attack as on the command line; a ladder by its preset and, where it was named, its attack."""
    if record.attack["name"] != "ladder":
        return _component(record.attack)
    params = record.attack["params_passed"]
    return f"ladder:{params['preset']}" + (f" {params['attack']}" if "attack" in params else "")


def _component(facts: dict[str, object]) -> str:
    params = spelled(facts["params_passed"])  # type: ignore[arg-type]
    return f"{facts['name']}:{params}" if params else str(facts["name"])


def _cells(record: Record) -> list[str]:
    figures = record.metrics
    robust = _percent(figures.get("robust_accuracy"))
    if interval := record.intervals.get("robust_accuracy"):
        robust = f"{robust} [{100 * interval[0]:.0f},{100 * interval[1]:.0f}]"
    worst = record.per_client[record.worst_client].get("robust_accuracy") if record.worst_client else None
    gate = ""
    if figures.get("detector_fpr") is not None:
        gate = f"{_percent(figures['detector_fpr'])}/{_percent(figures['detector_tpr'])}"
    return [
        _short(_component(record.defense)),
        _short(_attack(record)),
        "probe" if record.role == "probe" else record.threat["access"],
        _percent(figures.get("clean_accuracy")),
        robust,
        _percent(worst),
        gate,
        str(record.n),
    ]


def _short(name: str, longest: int = 32) -> str:
    """A name that leaves room for the figures; the record holds it in full."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def explain(records: Sequence[Record], samples: Path) -> Iterator[str]:
    """What claim and probe mean, and how to go on; nothing where the user chose the rungs.

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
            f"{probes[0].n} images and few steps, so it can only show a weakness, never its absence."
        )
    for probe in probes:
        claim = claims.get(_key(probe))
        if claim is None:
            continue
        claimed, probed = on_the_same_images(claim, probe, samples)
        gap = 100 * (claimed - probed)
        verdict = f"a gap of [bold]{gap:.1f} points[/]" if gap > 0 else "[bold]no gap found[/], which proves little"
        name = escape(_short(_component(claim.defense)))
        same = f"on the same {probe.n} images claim {100 * claimed:.1f} %, probe {100 * probed:.1f} %"
        yield f"{name}: {same}: {verdict}."
        again = f"--defense '{_component(claim.defense)}' --access ladder:full"
        yield f"[dim]more: rbmed run --dataset '{escape(_component(claim.dataset))}' {escape(again)}[/]"


def ladder(record: Record) -> Table | None:
    """How a ladder was climbed, rung by rung; None for other records."""
    if record.attack["name"] != "ladder" or record.status != "ok":
        return None
    right = ("images", "left %", "grad", "query", "s")
    table = style.table("rung", "attack", *right, "", title=f"{_short(_component(record.defense))} on the ladder",
                        right=right)  # fmt: skip
    table.padding = (0, 1, 0, 0)
    for rung in record.rungs:
        access, _, attack = rung["rung"].partition(" ")
        if rung["reason"]:
            style.row(table, access, attack, "", "", "", "", "", "not climbed")
            continue
        left = 100 * rung["withstanding"]
        figures = (f"{rung['gradients_mean']:.0f}", f"{rung['queries_mean']:.0f}", f"{rung['seconds']:.0f}")
        style.row(table, access, attack, str(rung["attacked"]), f"{left:.1f}", *figures, "█" * round(left / 10))
    return table


def not_climbed(record: Record) -> Iterator[str]:
    """A line for each kind of rung that was left out, and why."""
    if record.attack["name"] == "ladder" and record.status == "ok":
        for access, reason in dict.fromkeys((rung["access"], rung["reason"]) for rung in record.rungs):
            if reason:
                yield f"{_component(record.defense)}: no rung {access}: {reason}"


def warnings(records: Sequence[Record]) -> Iterator[str]:
    """One line for each raised flag of the diagnostics, with what to try."""
    for record in records:
        for flag in record.diagnostics.get("flags", ()):
            yield f"{name_of(record)}: {flag}: {FLAGS[flag]}"


def on_the_same_images(claim: Record, probe: Record, samples: Path) -> tuple[float, float]:
    """Robust accuracy of both cells over the images of the probe, each a mean over noise draws."""
    import pandas as pd

    frames = [pd.read_parquet(samples / f"{record.cell_id}.parquet") for record in (claim, probe)]
    shared = [frame[frame["index"].isin(frames[1]["index"])] for frame in frames]
    safe = [(frame.attacked_prediction == frame.label) | frame.attacked_rejected for frame in shared]
    return float(safe[0].mean()), float(safe[1].mean())


def _key(record: Record) -> tuple[str, str, str, int]:
    return (
        record.dataset["digest"],
        _component(record.defense),
        f"{record.threat['norm']} {record.threat['eps']}",
        record.seed,
    )
