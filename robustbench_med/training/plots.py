"""Plots of a training: images, the outputs of the parts, losses, and the detector scores with the gates.

They are stored with the weights, but nothing reads them and no digest covers them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_med.datasets.partition_report import COLOURS
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.defenses.resolved import leaves
from robustbench_med.errors import RbmedWarning
from robustbench_med.interfaces.dataset import DataCard, Split
from robustbench_med.interfaces.defense import Detector, Part, System
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.tasks import label_counts
from robustbench_med.training import image_grid

FOLDER = "pictures"
#: Most clients in a plot.
CLIENTS = 12
#: Images in the plot of a part, of all its clients together.
IMAGES = 8


class PictureWarning(RbmedWarning):
    """A part's own pictures failed."""


def draw(deployment: Deployment, train: Split) -> Path:
    """Draw the plots of `rbmed train`; return their folder, ``pictures`` in that of the weights.

    ``samples.png``: training images. ``<part>-learning.png``: losses by round. ``<part>.png``: the part on clean
    calibration images. ``scores.png``: their detector scores and the gates. Plots without data are left out; a
    part whose own pictures fail causes a `PictureWarning`.

    Args:
        deployment: the trained defense.
        train: its training images.
    """
    folder, dataset = deployment.artifact.folder / FOLDER, deployment.dataset
    folder.mkdir(exist_ok=True)
    card, facts = dataset.card(), deployment.artifact.manifest["parts"]
    parts = [part for part in (deployment.resolved.detector, deployment.resolved.purifier) if part is not None]
    with dataset.progress.task("drawing pictures", 1 + len(facts) + 2 * bool(parts)) as bar:
        _samples(card, train, folder / "samples.png")
        bar.advance()
        for name, trained in facts.items():
            _learning(f"{name}, {_named(card)}", rounds(trained["metrics"]), folder / f"{name}-learning.png")
            bar.advance()
        if parts:
            sites = dataset.split("calibration").by_site()
            _parts(deployment, sites, folder)
            bar.advance()
            if deployment.resolved.detector is not None:
                _scores(deployment, sites, folder / "scores.png")
            bar.advance()
    return folder


# --- images ---


def _samples(card: DataCard, train: Split, path: Path) -> None:
    sites, classes = train.by_site(), len(card.classes)
    each = max(1, min(4, 12 // classes))
    drawn = []
    for client, own in list(sites.items())[:CLIENTS]:
        tiles = []
        for label in range(classes):
            rows = label_counts(own.labels, classes)[:, label].nonzero().flatten()
            shown = own.images[rows[_spread(len(rows), each)]]
            tiles += [image_grid.grey(shown, 0, 1), image_grid.blank(each - len(shown), card.size)]
        drawn.append((client, np.concatenate(tiles)))
    title = f"{_named(card)}: training images"
    if len(sites) > CLIENTS:
        title += f" of {CLIENTS} of {len(sites)} clients"
    image_grid.write(path, drawn, [(name, each) for name in card.classes], title)


def _parts(deployment: Deployment, sites: Mapping[str, Split], folder: Path) -> None:
    """An image grid for each part, with images of several clients and each client's own part."""
    clients = [client for client in deployment.artifact.clients if client in sites][: IMAGES // 2]
    if not clients:
        return
    each = IMAGES // len(clients)
    rows = {client: _spread(len(sites[client]), each) for client in clients}
    columns = [(client, len(own)) for client, own in rows.items()]
    pipelines = {client: deployment.pipeline(client) for client in clients}
    for kind in ("detector", "purifier"):
        for at, (name, part) in enumerate(_shown(kind, pipelines[clients[0]])):
            try:
                found = []
                for client, own in pipelines.items():
                    x = sites[client].images[rows[client]].to(deployment.device)
                    rng = Stream.named("pictures", 0, rows[client].to(deployment.device))
                    system = System(own.classifier, own.purifier)
                    found.append(rows_of(_shown(kind, own)[at][1], x, system, rng))
                drawn = _drawn(found)
            except Exception as error:  # noqa: BLE001 -- a plugin's pictures must not make its training fail
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                warnings.warn(f"no picture of {kind} {part.spec_name!r}: {reason}", PictureWarning, stacklevel=2)
                continue
            if drawn:
                title = f"{kind} {part.spec_name}, {_named(deployment.dataset.card())}: clean calibration images"
                image_grid.write(folder / f"{name}.png", drawn, columns, title)


def _shown(kind: str, pipeline: Pipeline) -> list[tuple[str, Part]]:
    """The part by its file name; for a wrapper, the trained parts inside it."""
    part: Part | None = getattr(pipeline, kind)
    if part is None:
        return []
    if not part.inner():
        return [(kind, part)]
    return [(kind if n == 1 else f"{kind}-{n}", leaf) for n, leaf in enumerate(leaves(part), 1)]


@torch.no_grad()
def rows_of(part: Part, x: Tensor, system: System, rng: Stream) -> dict[str, Tensor]:
    """A part's pictures of images, (N, C, H, W) by caption, and a detector's error map, (N, H, W).

    Raises:
        ValueError: a picture has another shape than the images, or values that are not finite.
    """
    rows = part.pictures(x, rng)
    if isinstance(part, Detector):
        errors = part.error_map(x, system, rng)
        if errors is not None:
            rows = {**(rows or {"image": x}), "error map": errors}
    for caption, values in rows.items():
        shape = x.shape if values.dim() == 4 else (len(x), *x.shape[2:])
        if values.shape != shape or not values.isfinite().all():
            wrong = "is not finite" if values.shape == shape else f"has shape {tuple(values.shape)}"
            raise ValueError(f"picture {caption!r} of images {tuple(x.shape)} {wrong}")
    return rows


def _drawn(found: Sequence[Mapping[str, Tensor]]) -> list[tuple[str, image_grid.Tiles]]:
    """Rows of tiles, with one scale per row for the images of all clients."""
    drawn = []
    for caption in found[0]:
        values = torch.cat([rows[caption].float() for rows in found])
        low, high = image_grid.span(values)
        if values.dim() == 3:  # an error map
            low, high = 0.0, float(torch.quantile(values.flatten().cpu(), 0.995))
        tiles = image_grid.heat(values, high) if values.dim() == 3 else image_grid.grey(values, low, high)
        drawn.append((f"{caption}\n{low:.2g} to {high:.2g}", tiles))
    return drawn


def _spread(count: int, wanted: int) -> Tensor:
    """Rows far apart, as neighbours are often slices of one patient: int64, at most ``wanted``."""
    return torch.linspace(0, count - 1, min(count, wanted)).round().long()


def _named(card: DataCard) -> str:
    return card.name + " (synthetic)" * card.synthetic


# --- learning ---


def rounds(metrics: Any) -> list[Mapping[str, Any]]:
    """The rounds of a training, from its manifest; empty for a part that is only fitted."""
    found = metrics.get("rounds", []) if isinstance(metrics, Mapping) else metrics
    return [entry for entry in found if isinstance(entry, Mapping)]


def curves(history: Sequence[Mapping[str, Any]], figure: str) -> dict[str, list[tuple[float, float]]]:
    """A figure by round, (round, value), for each client that reports it.

    Figures of the round itself, not by client, give the curve of "all clients".
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for number, entry in enumerate(history, 1):
        own = entry.get("clients")
        by_client = own if isinstance(own, Mapping) else {}
        for client, figures in {"all clients": entry, **by_client}.items():
            value = figures.get(figure) if isinstance(figures, Mapping) else None
            if isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(client, []).append((entry.get("round", number), float(value)))
    return found


def _learning(title: str, history: Sequence[Mapping[str, Any]], path: Path) -> None:
    panels = {figure: lines for figure in ("loss", "accuracy") if (lines := curves(history, figure))}
    if len(history) < 2 or not panels:
        return
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    picture = Figure(figsize=(4.6 * len(panels), 3.6), dpi=image_grid.DPI, layout="constrained")
    axes = picture.subplots(1, len(panels), squeeze=False)[0]
    for panel, (figure, lines) in zip(axes, panels.items(), strict=True):
        few = len(lines) <= len(COLOURS)
        for at, (client, points) in enumerate(lines.items()):
            marker = "o" if len(points) <= 20 else ""
            colour = COLOURS[at] if few else "0.75"
            panel.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                markersize=3,
                linewidth=1.3,
                label=client if few else None,
            )
        if len(lines) > 1:
            panel.plot(*zip(*_mean(lines.values()), strict=True), color="black", linewidth=1.8, label="mean of clients")
        values = [value for points in lines.values() for _, value in points]
        if figure == "loss" and min(values) > 0 and max(values) > 10 * min(values):
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
        _plain(panel, f"{figure} in training")
        panel.set_xlabel("round", fontsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[0].legend(frameon=False, fontsize=8)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    picture.savefig(path)


def _mean(lines: Iterable[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean of each round over the clients that report it."""
    by_round: dict[float, list[float]] = {}
    for points in lines:
        for number, value in points:
            by_round.setdefault(number, []).append(value)
    return [(number, sum(values) / len(values)) for number, values in sorted(by_round.items())]


# --- scores ---


def _scores(deployment: Deployment, sites: Mapping[str, Split], path: Path) -> None:
    clients = [client for client in deployment.served if client in sites][:CLIENTS]
    if not clients:
        return
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    scores = {client: deployment.scores(client, sites[client]) for client in clients}
    every = torch.cat(list(scores.values()))
    low, high = float(every.min()), float(every.max())
    wide = min(4, len(clients))
    tall = -(-len(clients) // wide)
    picture = Figure(figsize=(max(3 * wide, 8), 2.6 * tall + 0.6), dpi=image_grid.DPI, layout="constrained")
    axes = list(picture.subplots(tall, wide, sharex=True, squeeze=False).flat)
    for panel, client in zip(axes, clients, strict=False):
        gate = deployment.pipeline(client).gate
        assert gate is not None
        panel.hist(scores[client].numpy(), bins=30, range=(low, high), color=COLOURS[0])
        recipe = deployment.resolved.recipe
        _mark(panel, gate, follows=recipe.purifier is not None and recipe.strength is None)
        panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        _plain(panel, f"{client}: {plural(len(scores[client]), 'image')}")
    for panel in axes[len(clients) :]:
        panel.set_axis_off()
    part = deployment.resolved.detector
    assert part is not None
    title = f"detector {part.spec_name}, {_named(deployment.dataset.card())}: scores of clean calibration images"
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    picture.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    picture.savefig(path)


def _mark(panel: Any, gate: Gate, follows: bool) -> None:
    """The threshold and, if strength follows the score, the scores of strength 0 and 1."""
    panel.axvline(gate.threshold, color=COLOURS[3], label="threshold: flagged above it")
    if follows:
        panel.axvline(gate.low, color="black", linestyle=":", label="strength 0")
        panel.axvline(gate.high, color="black", linestyle="--", label="strength 1")


def _plain(panel: Any, title: str) -> None:
    panel.set_title(title, fontsize=9, loc="left")
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.grid(axis="y", color="0.92")
    panel.set_axisbelow(True)
