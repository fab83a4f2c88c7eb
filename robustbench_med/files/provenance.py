"""What a number was made with: versions, commit, command, hardware, threads, flags."""

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

from robustbench_med.files.checkout import checkout
from robustbench_med.files.redact import command_line

#: Seconds after which a commit counts as unknown.
GIT_TIMEOUT = 60
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
def commit(file: Path = Path(__file__)) -> str | None:
    """The commit of the checkout that holds ``file``, with ``+changes`` if it was edited; None if installed."""
    root = checkout(file)
    if root is None:
        return None

    def git(*args: str) -> str:
        command = ["git", "-C", str(root), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def hardware(device: torch.device) -> dict[str, Any]:
    """The processor, the GPU and the number of threads."""
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"], facts["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return facts


@cache
def processor() -> str:
    """The processor's name, or the machine's where the system does not give one."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def flags() -> dict[str, Any]:
    """Torch's settings of precision and determinism."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cuda_matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "nvidia_tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE"),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


def provenance(device: torch.device) -> dict[str, Any]:
    """Everything above, and the command, for a record; paths of the machine are left out."""
    return {
        "versions": versions(),
        "commit": commit(),
        "command": command_line(sys.argv),
        "hardware": hardware(device),
        "device": str(device),
        "flags": flags(),
    }


def peak_memory(device: torch.device) -> float:
    """MiB used at most: of the GPU since the cell began, else of the process since it started."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
