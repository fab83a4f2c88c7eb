"""Images and patients of each client of a data set: counts, label skew, and a chart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.files.atomic import replacing
from robustbench_med.files.pictures import check_picture
from robustbench_med.interfaces.dataset import SPLITS, DataCard, Dataset
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.tasks import label_counts

#: Okabe and Ito's palette, distinguishable with any colour vision; black is for text, yellow for the eighth class.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#999999", "#F0E442")


@dataclass(frozen=True)
class Holdings:
    """Images and patients by split and client.

    Attributes:
        card: the data set's.
        clients: names of the clients (sites), sorted.
        images: images by split, client and class, int64 (3, C, K); splits as in
            `robustbench_med.interfaces.dataset.SPLITS`.
        patients: patients by split and client, int64 (3, C).
        sizes: images by split and client, int64 (3, C); of a multi-label data set an image counts in ``images`` with
            each of its findings.
    """

    card: DataCard
    clients: tuple[str, ...]
    images: NDArray[np.int64]
    patients: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def skew(self, split: str = "train") -> float | None:
        """Mean over the clients of the total-variation distance between their labels' distribution and the pooled one.

        In [0, 1]: 0 where all clients have the same mixture of labels; None where the split is empty.
        """
        images = self.images[SPLITS.index(split)]
        images = images[images.any(axis=1)]
        if not len(images):
            return None
        shares = images / images.sum(axis=1, keepdims=True)
        pooled = images.sum(axis=0) / images.sum()
        return float(np.abs(shares - pooled).sum(axis=1).mean() / 2)


def holdings(dataset: Dataset) -> Holdings:
    """Count the images and patients of every client; each split is read once and not kept."""
    card = dataset.card()
    counts: list[tuple[NDArray[Any], ...]] = []
    for name in SPLITS:
        split = dataset.split(name)
        clients, client = np.unique(np.asarray(split.sites, dtype=np.str_), return_inverse=True)
        images = np.zeros((len(clients), len(card.classes)), dtype=np.int64)
        np.add.at(images, client, label_counts(split.labels, len(card.classes)).numpy()[:, : len(card.classes)])
        who = np.unique(np.asarray(split.patients, dtype=np.str_), return_inverse=True)[1]
        pairs = np.unique(np.stack([client, who]), axis=1)
        people = np.bincount(pairs[0], minlength=len(clients))
        counts.append((clients, images, people, np.bincount(client, minlength=len(clients))))
    everyone = np.unique(np.concatenate([clients for clients, *_ in counts]))
    images = np.zeros((len(SPLITS), len(everyone), len(card.classes)), dtype=np.int64)
    patients, sizes = (np.zeros((len(SPLITS), len(everyone)), dtype=np.int64) for _ in range(2))
    for at, (clients, of_class, people, every) in enumerate(counts):
        rows = np.searchsorted(everyone, clients)
        images[at, rows], patients[at, rows], sizes[at, rows] = of_class, people, every
    return Holdings(card, tuple(everyone.tolist()), images, patients, sizes)


def summary(held: Holdings) -> str:
    """Sizes and label skew of the training images, in one line."""
    sizes, skew = held.sizes[0], held.skew()
    least, most = int(sizes.min()), int(sizes.max())
    images = plural(most, "training image") if least == most else f"{least} to {plural(most, 'training image')}"
    line = f"{plural(len(sizes), 'client')} with {images}{' each' if least == most and len(sizes) > 1 else ''}"
    distance = "mean total-variation distance to the pooled one"
    return line if skew is None else f"{line}; label distributions differ by {skew:.2f} ({distance})"


def picture(held: Holdings, partition: str, path: Path) -> None:
    """Draw images by class for every client, one panel a split, as PNG or SVG.

    Args:
        held: the counts.
        partition: name of the partition, for the title.
        path: the file, ending in ``.png`` or ``.svg``.

    Raises:
        BadParameter: see `check_picture`.
        StoreError: the file cannot be written.
    """
    check_picture(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    count = len(held.clients)
    height = 1.7 + min(max(count, 3) * 0.3, 28)
    # Text of an SVG stays text, a $ in a class name is not a formula, and equal charts are equal files.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rbmed", "text.parse_math": False, "font.size": 10}):
        figure = Figure(figsize=(10, height), layout="constrained")
        panels = figure.subplots(1, len(SPLITS), sharey=True, gridspec_kw={"width_ratios": (2, 1, 1)})
        for at, panel in enumerate(panels):
            _panel(panel, held, at)
        panels[0].set_yticks(np.arange(count), held.clients, fontsize=10 if count <= 40 else 6)
        panels[0].set_ylim(count - 0.4, -0.6)
        origin = " (synthetic)" if held.card.synthetic else ""
        title = f"{held.card.name}{origin}, partition {partition}: who holds what"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        figure.legend(loc="outside lower center", ncols=min(len(held.card.classes), 5), frameon=False)
        form = path.suffix.lower().removeprefix(".")
        with replacing(path) as draft:
            figure.savefig(draft, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)


def _panel(panel: Any, held: Holdings, at: int) -> None:
    """Draw the bars of the split ``at``, one per client, with its total."""
    from matplotlib.ticker import MaxNLocator

    rows, left = np.arange(len(held.clients)), np.zeros(len(held.clients))
    for label, kind in enumerate(held.card.classes):
        wide = held.images[at, :, label]
        # Colours that are used a second time are hatched.
        round_, colour = divmod(label, len(COLOURS))
        panel.barh(
            rows,
            wide,
            left=left,
            height=0.78,
            color=COLOURS[colour],
            edgecolor="white",
            linewidth=0.4,
            hatch="/" * (3 * round_),
            label=kind if at == 0 else None,
        )
        left += wide
    for row, (total, end) in enumerate(zip(held.sizes[at], left, strict=True)):
        panel.annotate(
            f"{total}",
            (end, row),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="0.25",
        )
    panel.set_title(f"{SPLITS[at]}: {plural(held.sizes[at].sum(), 'image')}", fontsize=10)
    panel.set_xlim(0, max(left.max(), 1) * 1.17)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="0.9")
    panel.set_axisbelow(True)
