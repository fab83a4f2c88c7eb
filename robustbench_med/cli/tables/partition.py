"""The table of ``rbmed data partition``: what each client holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from robustbench_med.cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from robustbench_med.datasets.partition_report import Holdings

#: One look a class, in turn; the fill tells them apart where there is no colour.
_LOOKS = tuple(
    zip("█▓▒░█▓▒░", ("blue", "yellow", "green", "red", "cyan", "magenta", "white", "bright_red"), strict=True)
)


def rows(held: Holdings) -> list[dict[str, Any]]:
    """One row a split and client, those without images left out, as JSON types."""
    from robustbench_med.interfaces.dataset import SPLITS

    return [
        {
            "split": split,
            "site": client,
            "patients": int(held.patients[at, row]),
            "images": int(held.sizes[at, row]),
            "classes": dict(zip(held.card.classes, held.images[at, row].tolist(), strict=True)),
        }
        for at, split in enumerate(SPLITS)
        for row, client in enumerate(held.clients)
        if held.patients[at, row]
    ]


def table(held: Holdings) -> Table:
    """The splits of each client below each other: counts, a bar of its size and one of its mixture of labels."""
    wide = console.out.width >= 100
    classes = held.card.classes
    right = ("patients", "images", *classes, "share %")
    made = console.table(
        "client", "split", "patients", "images", *["size"] * wide, *classes, "labels", "share %", right=right
    )
    made.padding = (0, 2 if wide else 1, 0, 0)
    found = sorted(rows(held), key=lambda row: held.clients.index(row["site"]))
    largest = {row["split"]: row["images"] for row in sorted(found, key=lambda row: row["images"])}
    last = ""
    for row in found:
        counts = list(row["classes"].values())
        shares = [count / row["images"] for count in counts]
        made.add_row(
            Text("" if row["site"] == last else row["site"]),
            row["split"],
            str(row["patients"]),
            str(row["images"]),
            *["━" * max(1, round(10 * row["images"] / largest[row["split"]]))] * wide,
            *map(str, counts),
            _stacked([count / max(1, sum(counts)) for count in counts], 20 if wide else 8),
            "/".join(f"{100 * share:.0f}" for share in shares),
        )
        last = row["site"]
    return made


def legend(classes: tuple[str, ...]) -> Text:
    """Which fill of the bars is which class."""
    looks = map(_look, range(len(classes)))
    keys = [Text.assemble((2 * fill, colour), f" {name}") for (fill, colour), name in zip(looks, classes, strict=True)]
    return Text("labels: ") + Text("   ").join(keys)


def _stacked(shares: list[float], width: int) -> Text:
    bar, filled, total = Text(), 0, 0.0
    for at, share in enumerate(shares):
        total += share
        fill, colour = _look(at)
        bar.append(fill * (round(total * width) - filled), colour)
        filled = round(total * width)
    return bar


def _look(label: int) -> tuple[str, str]:
    return _LOOKS[label % len(_LOOKS)]
