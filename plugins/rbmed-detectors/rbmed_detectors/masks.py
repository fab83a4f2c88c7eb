"""Fixed masks: the patches that are visible to an autoencoder in each pass. The same for every image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import robustbench_med as rbmed


def complementary(patches: int, passes: int, ratio: float, sets: int = 1) -> tuple[Tensor, Tensor]:
    """Sets of complementary masks; those of one set hide every patch equally often (within one).

    Each pass hides a window of one fixed circular permutation of the patches; the windows start evenly spaced. Every
    set has its own permutation; more sets do not change the first ones.

    Args:
        patches: L, patches of an image.
        passes: masks in a set.
        ratio: share of patches that a mask hides.
        sets: number of sets.

    Returns:
        Places of the visible patches, int64 (sets * passes, V), and float32 (sets * passes, L), 1 where a patch is
        hidden; sets one after another.
    """
    hide = min(patches - 1, math.ceil(ratio * patches))
    orders = _shuffled("mae-masks", sets, patches)
    starts = torch.arange(passes) * patches // passes
    shifted = orders[:, (starts[:, None] + torch.arange(patches)) % patches].flatten(0, 1)
    hidden = torch.zeros(len(shifted), patches).scatter(1, shifted[:, :hide], 1.0)
    return shifted[:, hide:], hidden


def independent(patches: int, masks: int, visible: int) -> tuple[Tensor, Tensor]:
    """Independent random masks that leave ``visible`` patches; more masks do not change the first ones.

    Returns:
        As `complementary`: int64 (masks, visible) and float32 (masks, L).
    """
    order = _shuffled("dram-masks", masks, patches)
    hidden = torch.zeros(masks, patches).scatter(1, order[:, visible:], 1.0)
    return order[:, :visible], hidden


def _shuffled(name: str, rows: int, patches: int) -> Tensor:
    """``rows`` fixed permutations of the patches, int64 (rows, L)."""
    return rbmed.Stream.named(name, 0, torch.arange(rows)).uniform((rows, patches)).argsort(1)
