"""What the benchmarks share: repeated timing, time inside a model, the device's share of the work."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

Result = TypeVar("Result")


def seconds(work: Callable[[], Result], runs: int, device: torch.device) -> tuple[float, Result]:
    """Median wall time of ``runs`` calls, and what the last one returned."""
    taken = []
    for _ in range(runs):
        _wait(device)
        start = time.perf_counter()
        result = work()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), result


class Stopwatch:
    """Wall time inside the forward and backward passes of a module and of copies of it."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.total, self.device, self.start = 0.0, device, 0.0
        # Plain functions: a copied module keeps calling these, with this watch.
        begin, end = (lambda *_: self._begin()), (lambda *_: self._end())
        self.hooks = [
            module.register_forward_pre_hook(begin),
            module.register_forward_hook(end),
            module.register_full_backward_pre_hook(begin),
            module.register_full_backward_hook(end),
        ]

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _begin(self) -> None:
        _wait(self.device)
        self.start = time.perf_counter()

    def _end(self) -> None:
        _wait(self.device)
        self.total += time.perf_counter() - self.start


def share_outside(work: Callable[[], Any], module: nn.Module, device: torch.device) -> float:
    """Share of the wall time of one call that is not spent in forward and backward passes of ``module``."""
    with Stopwatch(module, device) as watch:
        taken, _ = seconds(work, 1, device)
    return 1 - watch.total / taken


def share_busy(work: Callable[[], Any]) -> float:
    """Share of the wall time of one call in which a CUDA device computes (kernels of one stream do not overlap)."""
    device = torch.device("cuda")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        taken, _ = seconds(work, 1, device)
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / taken


def machine(device: torch.device) -> str:
    """One line on what the figures were measured on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return (
        f"{platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}"
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
