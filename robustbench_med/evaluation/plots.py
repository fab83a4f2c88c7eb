"""Plots of records on axes of matplotlib."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from robustbench_med.errors import BadParameter
from robustbench_med.plugins.references import format_eps
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.records.summary import attack_of
from robustbench_med.records.table import row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bounds = tuple[float, float] | None
#: Names of radii nearer to each other than this share of the axis are written aslant.
CLOSE = 0.1
#: Columns of the table of records that a name says where they differ: with another eps alone, cells are one line.
APART = (
    *("dataset", "dataset_params", "partition", "unseen", "client", "strategy", "strategy_params", "training"),
    *("train_seed", "goal", "finding", "budget", "eot", "draws", "seed"),
)


def draw(kind: str, records: Sequence[Record], ax: Axes | None) -> Axes:
    """Draw one of `KINDS`.

    Raises:
        BadParameter: the records have nothing to draw.
    """
    function, missing = KINDS[kind]
    if ax is None:
        from matplotlib import pyplot as plt  # a notebook shows its figures

        ax = plt.subplots(figsize=(6, 4), layout="constrained")[1]
    if not function(records, ax):
        raise BadParameter(f"nothing to draw for plot {kind!r}: {missing}")
    ax.set_ylim(-2, 102)
    ax.set_ylabel("robust accuracy, %")
    ax.grid(alpha=0.3)
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(fontsize="small")
    return ax


def _named(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Each record with its name: defense, attack and access, and whatever else is not the same in all of them."""
    rows = [row(record) for record in records]
    differing = [column for column in APART if len({str(each[column]) for each in rows}) > 1]
    named = []
    for record, each in zip(records, rows, strict=True):
        more = [f"{column.replace('_', ' ')} {each[column]}" for column in differing if each[column] not in ("", None)]
        parts = (formatted(record.defense), attack_of(record), record.threat.access, *more)
        named.append((", ".join(parts), record))
    return named


def _error(value: float, bounds: Bounds) -> list[list[float]]:
    if bounds is None:  # nothing is drawn, where a bar of no length would claim certainty
        return [[math.nan], [math.nan]]
    low, high = bounds
    return [[100 * max(0.0, value - low)], [100 * max(0.0, high - value)]]


def _against_eps(records: Sequence[Record], ax: Axes) -> bool:
    lines: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for name, record in _named(records):
        if record.metrics.get("robust_accuracy") is not None:
            lines[name, record.threat.norm].append(record)
    for (name, norm), group in lines.items():
        ordered = sorted(group, key=lambda record: record.threat.eps)
        eps = [record.threat.eps for record in ordered]
        values = [record.metrics["robust_accuracy"] or 0.0 for record in ordered]
        errors = [_error(v, r.intervals.get("robust_accuracy")) for v, r in zip(values, ordered, strict=True)]
        (color,) = {line.get_color() for line in ax.plot(eps, [100 * v for v in values], "o-", label=name)}
        low, high = ([each[side][0] for each in errors] for side in (0, 1))
        ax.errorbar(eps, [100 * v for v in values], [low, high], fmt="none", ecolor=color, capsize=3)
        if (clean := ordered[0].metrics.get("clean_accuracy")) is not None:
            ax.plot([0, eps[0]], [100 * clean, 100 * values[0]], "o:", color=color, alpha=0.6)
        ax.set_xlabel(f"eps ({norm})")
    ticks = sorted({record.threat.eps for group in lines.values() for record in group})
    if ticks:
        near = any(high - low < CLOSE * ticks[-1] for low, high in pairwise([0, *ticks]))
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if near else {}
        ax.set_xticks([0, *ticks], ["clean", *map(format_eps, ticks)], **turned)
    return bool(lines)


def _per_client(records: Sequence[Record], ax: Axes) -> bool:
    rows = [(name, record) for name, record in _named(records) if record.per_client]
    clients = sorted({client for _, record in rows for client in record.per_client})
    width = 0.8 / max(1, len(rows))
    for at, (name, record) in enumerate(rows):
        for place, client in enumerate(clients):
            value = record.per_client.get(client, {}).get("robust_accuracy")
            if value is None:
                continue
            bounds = record.client_intervals.get(client, {}).get("robust_accuracy")
            label = name if client == min(record.per_client) else None
            x = place + (at - (len(rows) - 1) / 2) * width
            ax.bar(x, 100 * value, width, color=f"C{at % 10}", label=label, yerr=_error(value, bounds), capsize=3)
    ax.set_xticks(range(len(clients)), clients)
    return bool(rows)


def _saturation(records: Sequence[Record], ax: Axes) -> bool:
    found = False
    for name, record in _named(records):
        spent, points = 0.0, []
        for rung in record.rungs:
            points += [(spent + each.gradients, 100 * each.withstanding) for each in rung.rounds]
            spent += rung.rounds[-1].gradients if rung.rounds else 0.0
        if points:
            found = True
            clean = record.metrics.get("clean_accuracy")
            first = [] if clean is None else [(0.0, 100 * clean)]
            gradients, left = zip(*first, *points, strict=True)
            ax.step(gradients, left, where="post", label=name)
    ax.set_xlabel("gradients per image")
    return found


#: Each plot, and what records lack where there is nothing to draw.
KINDS: dict[str, tuple[Callable[[Sequence[Record], Axes], bool], str]] = {
    "eps": (_against_eps, "no cell was measured"),
    "clients": (_per_client, "no cell was measured for each of several clients"),
    "saturation": (_saturation, "no ladder was measured; evaluate with access='ladder:quick'"),
}
