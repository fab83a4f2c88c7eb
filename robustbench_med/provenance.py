"""What a number was made with: versions, commit, hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

_WATCHED = ("robustbench-med", "torch", "torchvision", "timm", "diffusers", "flwr", "numpy", "scipy")


@cache
def versions() -> dict[str, str]:
    """Versions of Python, the libraries that can change a number, and every installed plugin distribution."""
    found = {"python": platform.python_version()}
    plugins = {entry.dist.name for entry in importlib.metadata.entry_points(group="rbmed") if entry.dist is not None}
    for name in (*_WATCHED, *sorted(plugins)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str | None:
    """The commit of the source checkout this runs from, with ``+changes`` if it was edited; None when installed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def hardware(device: torch.device) -> dict[str, Any]:
    """The processor or GPU, and how many threads work."""
    facts: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def provenance(device: torch.device) -> dict[str, Any]:
    """Everything above, for a record."""
    return {"versions": versions(), "commit": commit(), "hardware": hardware(device), "device": str(device)}


def peak_memory(device: torch.device) -> float:
    """MiB: of the GPU since the cell began, else the process's largest resident size so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
