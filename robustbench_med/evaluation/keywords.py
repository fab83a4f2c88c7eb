"""The keywords of the Python API, with types that an editor completes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from robustbench_med.datasets.from_python import OwnData
from robustbench_med.grid.options import Ref
from robustbench_med.interfaces.threat import Goal, ThreatModel
from robustbench_med.plugins.specs import Norm

#: Images (N, C, H, W) or (N, H, W) and labels (N,), or a torch data set or loader of these.
Pair = tuple[Any, Any] | TorchDataset[Any] | DataLoader[Any]


class TrainingOptions(TypedDict, total=False):
    """How a defense is trained, as `rbmed train --help` describes it; what is not given is as in its recipe."""

    model: str | nn.Module | dict[str, Any] | None
    strategy: str | None
    adversarial: str | None
    malicious: str | None
    engine: str | None
    partition: str | None
    unseen_site: str | Sequence[str]


class RunOptions(TypedDict, total=False):
    """The options of a run, as `rbmed run --help` and `robustbench_med.grid.config.RunConfig` describe them."""

    defense: Ref | Sequence[Ref]
    baseline: Ref | None
    dataset: Ref | OwnData | Pair | Sequence[Ref]
    attack: Ref | Sequence[Ref]
    seed: int | Sequence[int]
    include: Ref | Sequence[Ref]
    exclude: Ref | Sequence[Ref]
    data_root: Path | str | None
    test_folder: Path | str | None
    download: bool
    partition: Ref | None
    unseen_site: str | Sequence[str]
    client: str | Sequence[str]
    each_client: bool
    limit: int | None
    norm: Norm
    eps: float | str | Sequence[float | str]
    goal: Goal
    finding: str | Sequence[str]
    threat: ThreatModel | Ref | Sequence[ThreatModel | Ref]
    calibrated_thresholds: bool
    access: str | Sequence[str]
    surrogate: Ref
    evasion: str
    stand_in: Literal["identity", "blur"]
    max_gradients: int | None
    max_queries: int | None
    eot: int
    draws: int
    diagnostics: Literal["off", "cheap", "full"]
    score_8bit: bool
    score_fixed_noise: bool
    probe_limit: int
    certify: bool
    n0: int
    n: int
    alpha: float
    model: Ref | nn.Module | Sequence[Ref | nn.Module]
    strategy: Ref | Sequence[Ref]
    adversarial: Ref | None
    malicious: Ref | None
    engine: Ref | None
    weights: Path | str | None
    train: bool
    train_seed: int | Sequence[int]
    device: str
    batch_size: str | int
    executor: Ref
    time_limit: float | None
    shards: int
    precision: Literal["float32", "bf16", "fp16"]
    tf32: bool
    compile: bool
    channels_last: bool
    prefetch: bool
    share: bool
    out: Path | str
    again: bool
