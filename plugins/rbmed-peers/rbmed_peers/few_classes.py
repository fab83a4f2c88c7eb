"""Where other libraries index logits or pixels that do not exist, and what to use instead."""

from __future__ import annotations


def no_dlr(classes: int, least: int, instead: str) -> str:
    """The reason that an attack with the DLR loss gives on too few classes."""
    return f"needs {least} classes (its DLR loss looks at {least} logits), not {classes}; use {instead}"


def tiles(side: int) -> bool:
    """Whether the first image of Square Attack in L2 and L1, about 5 x 5 tiles, fits into images of this side.

    The published code, which torchattacks copied, writes past the edge on sides 12, 14, 18, 19 and 24.
    """
    tile = side // 5
    return tile == 1 or (tile > 1 and (side - 5 * tile) // 2 + (side // tile) * tile <= side)
