"""Grids of images with captions, without interpolation."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Tiles = npt.NDArray[np.uint8]
DPI = 100
#: Approximate side of a tile in pixels; smaller images are enlarged by a whole number, larger ones subsampled.
SIDE = 128
#: Pixels between tiles, and between groups of columns.
GAP, ASIDE = 4, 10
#: Height of a line of text and width of a letter, in pixels; letters per line of a row's caption.
LINE, LETTER, CAPTION = 15, 7.0, 20


def grey(x: Tensor, low: float, high: float) -> Tiles:
    """Images (N, C, H, W) as tiles (N, H, W, 3): ``low`` is black, ``high`` is white.

    Three channels are red, green and blue; of any other number the mean is shown.
    """
    shown = x if x.shape[1] == 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    scaled = ((shown - low) / max(high - low, 1e-12)).clamp(0, 1)
    return np.asarray(scaled.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy())


def heat(x: Tensor, high: float) -> Tiles:
    """Maps (N, H, W) of values 0 or more as tiles (N, H, W, 3): 0 is black, ``high`` is a light yellow."""
    import matplotlib as mpl

    coloured = mpl.colormaps["inferno"]((x / max(high, 1e-12)).clamp(0, 1).cpu().numpy(), bytes=True)
    return np.asarray(coloured[..., :3])


def blank(count: int, side: int) -> Tiles:
    """White tiles (N, H, W, 3)."""
    return np.full((count, side, side, 3), 255, dtype=np.uint8)


def span(x: Tensor) -> tuple[float, float]:
    """Values for black and white: 0 and 1 if the range is about that of images, else the 0.5 and 99.5 % quantiles.

    So rows of images and of their reconstructions are comparable, and a few extreme pixels do not darken the others.
    """
    low, high = (float(torch.quantile(x.float().flatten().cpu(), share)) for share in (0.005, 0.995))
    if low > -0.25 and 0.5 < high < 1.25:
        return 0.0, 1.0
    return (0.0 if 0 <= low < 0.01 * high else low), high


def write(
    path: Path,
    rows: Sequence[tuple[str, Tiles]],
    columns: Sequence[tuple[str, int]],
    title: str,
    notes: Sequence[Sequence[str]] = (),
) -> None:
    """Write tiles as a PNG.

    Args:
        path: the file.
        rows: caption and tiles (N, H, W, 3) of each row, all of one shape.
        columns: captions above, each with the number of columns below it; they add up to N.
        title: above all.
        notes: for each row, short lines under its tiles; none by default.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from PIL import Image

    drawn = [(_folded(caption), _sized(tiles)) for caption, tiles in rows]
    side = drawn[0][1].shape[1]
    left = round(LETTER * max(len(line) for lines, _ in drawn for line in lines)) + 20
    top, below = 3 * LINE + 12, LINE + 4 if notes else 0
    pitch = side + below + GAP
    # Left edges of the columns.
    groups = [group for group, (_, wide) in enumerate(columns) for _ in range(wide)]
    edges = [left + column * (side + GAP) + group * (ASIDE - GAP) for column, group in enumerate(groups)]
    width = max(edges[-1] + side + 12, round(LETTER * 1.2 * len(title)) + 20)
    canvas = np.full((top + len(drawn) * pitch + 8, width, 3), 255, dtype=np.uint8)

    # A $ in a caption is not a formula.
    with mpl.rc_context({"text.parse_math": False, "font.size": 8.5}):
        figure = Figure(figsize=(canvas.shape[1] / DPI, canvas.shape[0] / DPI), dpi=DPI)

        def text(x: float, y: float, line: str, **style: Any) -> None:
            figure.text(x / canvas.shape[1], 1 - y / canvas.shape[0], line, **style)

        text(10, 10, title, va="top", size=10.5, weight="bold")
        at = 0
        for caption, wide in columns:
            x, over = edges[at], wide * (side + GAP) - GAP
            text(x + over / 2, top - 6, _clipped(caption, over), ha="center", va="bottom")
            if wide > 1:
                canvas[top - 4, x : x + over] = 160
            at += wide
        for row, (lines, tiles) in enumerate(drawn):
            y = top + row * pitch
            text(left - 8, y + side / 2, "\n".join(lines), ha="right", va="center", linespacing=1.25)
            for column, (x, tile) in enumerate(zip(edges, tiles, strict=True)):
                canvas[y : y + side, x : x + side] = tile
                if notes and notes[row][column]:
                    text(x + side / 2, y + side + 3, _clipped(notes[row][column], side + GAP), ha="center", va="top")
        figure.figimage(canvas)
        raw = io.BytesIO()
        figure.savefig(raw, format="rgba")
    # A grey image takes a third of the size.
    picture = Image.frombytes("RGBA", (canvas.shape[1], canvas.shape[0]), raw.getvalue())
    picture.convert("RGB" if (canvas != canvas[..., :1]).any() else "L").save(path, optimize=True)


def _sized(tiles: Tiles) -> Tiles:
    """Tiles of about `SIDE` pixels, enlarged by a whole number or subsampled."""
    side = tiles.shape[1]
    if side > 2 * SIDE:
        step = side // SIDE
        return np.ascontiguousarray(tiles[:, ::step, ::step])
    times = max(1, SIDE // side)
    return tiles.repeat(times, axis=1).repeat(times, axis=2)


def _folded(caption: str) -> list[str]:
    return [part for line in caption.splitlines() for part in textwrap.wrap(line, CAPTION)]


def _clipped(text: str, pixels: float) -> str:
    """The text, shortened to fit."""
    most = max(3, int(pixels / (0.9 * LETTER)))
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
