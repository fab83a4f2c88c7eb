"""The number of images that fit into memory: the memory of a pass over a few, and the free memory."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

#: Share of the free memory that a chunk may fill: estimates are rough, and other processes need memory too.
SHARE = 0.5


def resident(process: int | str = "self") -> int | None:
    """Bytes of resident memory of a process, by its id; None if the system does not report it."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def free(device: torch.device) -> int | None:
    """Bytes of free memory; None if the system does not report it."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    found = [size for size in (_machine(), _group()) if size is not None]
    return min(found) if found else None


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _group() -> int | None:
    """Free memory of the control group, such as a container's."""
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max" means no limit
            return int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text())
    return None


def peak(work: Callable[[], object], device: torch.device) -> int | None:
    """The largest growth of memory in bytes during ``work``; None if the system does not report it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    trim()
    before_ = resident()
    if before_ is None:
        return None
    highest, over = [before_], threading.Event()

    def watch() -> None:
        while not over.wait(0.001):
            highest[0] = max(highest[0], resident() or 0)

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        work()
        highest[0] = max(highest[0], resident() or 0)
    finally:
        over.set()
        watcher.join()
    return highest[0] - before_


def trim() -> None:
    """Return freed memory to the system, if the C library can, so that its reuse is measured."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def fitting(work: Callable[[int], object], most: int, device: torch.device) -> int:
    """The number of images per pass that fit: ``most``, or a smaller power of two.

    Args:
        work: a pass over the given number of images, from 1 to 4.
        most: the desired number.
        device: of the pass.
    """
    available = free(device)
    if available is None or most < 4:
        return most
    work(1)  # one-time set-up is not counted
    one, four = (peak(lambda n=n: work(n), device) for n in (1, 4))  # type: ignore[misc]
    if one is None or four is None:
        return most
    # The larger of slope and share: small passes may fit into memory that is allocated already.
    each = max((four - one) / 3, four / 4, 1.0)
    fit = SHARE * available / each
    return most if fit >= most else 1 << max(0, int(fit).bit_length() - 1)
