"""A client's part of a cell, or of a shard of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.runner.checkpoints import Chunk
from robustbench_med.runner.shards import Share


@dataclass
class ClientPart:
    """A client's part of a cell.

    Attributes:
        number: of the client in the cell.
        client: its name.
        pipeline: its deployed system.
        split: its images.
        rows: their rows in the test split, int64 (N,).
        finished: chunks that an earlier attempt has finished, with their places in the split.
        share: what of them is measured here.
    """

    number: int
    client: str
    pipeline: Pipeline
    split: Split
    rows: torch.Tensor
    finished: list[tuple[slice, Chunk]]
    share: Share
