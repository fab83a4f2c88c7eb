"""Devices, chunk sizes and out-of-memory back-off."""

from __future__ import annotations

from collections.abc import Callable

import torch

from robustbench_med.errors import BadParameter, DeviceError

#: Images per chunk when nobody chose: caches of a CPU are small, a GPU wants to be filled.
AUTO = {"cpu": 128, "cuda": 512}


def find_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:i`` as a device that is really there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"unknown device {name!r} (--device); valid: auto, cpu, cuda, cuda:i") from None
    if device.type not in AUTO:
        raise DeviceError(f"device {name!r} (--device) is not supported; valid: auto, cpu, cuda, cuda:i")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise DeviceError(f"device {name!r} (--device) is not there: {found} CUDA devices found; valid: auto, cpu")
    return device


def chunk_size(requested: str | int, device: torch.device, draws: int = 1) -> int:
    """Images per chunk so that images x draws stays within what the device likes."""
    if requested == "auto":
        return max(1, AUTO[device.type] // draws)
    try:
        size = int(requested)
    except ValueError:
        size = 0
    if size < 1:
        raise BadParameter(f"batch size must be 'auto' or an integer >= 1, not {requested!r} (--batch-size)")
    return size


def in_chunks(total: int, size: int, work: Callable[[slice], None]) -> None:
    """Call ``work`` for consecutive slices of at most ``size``; halve the size where a GPU runs out of memory."""
    start = 0
    while start < total:
        part = slice(start, min(start + size, total))
        try:
            work(part)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = max(1, size // 2)
            torch.cuda.empty_cache()
            continue
        start = part.stop
