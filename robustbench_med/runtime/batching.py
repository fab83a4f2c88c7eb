"""Devices, chunk sizes and out-of-memory back-off."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from robustbench_med.errors import BadParameter, DeviceError, described

Result = TypeVar("Result")

#: Most images per chunk: few for the caches of a CPU; on a GPU as many as a probe finds to fit, up to this number.
AUTO = {"cpu": 128, "cuda": 4096}


def find_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:i`` as an existing device."""
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
            raise DeviceError(
                f"device {name!r} (--device) does not exist: {found} CUDA devices found; valid: auto, cpu"
            )
    return device


def chunk_size(requested: str | int, device: torch.device) -> int:
    """Images per chunk: as requested, or the device's default."""
    if requested == "auto":
        return AUTO[device.type]
    try:
        size = int(requested)
    except ValueError:
        size = 0
    if size < 1:
        raise BadParameter(f"batch size must be 'auto' or an integer >= 1, not {requested!r} (--batch-size)")
    return size


def in_chunks(
    total: int, size: int, work: Callable[[slice, int], Result], start: int = 0
) -> Iterator[tuple[slice, Result]]:
    """``work(slice, size)`` for consecutive slices of at most ``size``; halves the size when memory runs out.

    A slice for which memory ran out is repeated from its beginning, in halves.
    """
    while start < total:
        part = slice(start, min(start + size, total))
        result = _attempt(work, part, size)
        if result is None:
            size = max(1, min(size, part.stop - part.start) // 2)
            release()
            continue
        yield part, result[0]
        start = part.stop


def _attempt(work: Callable[[slice, int], Result], part: slice, size: int) -> tuple[Result] | None:
    """The result, or None if memory ran out; the error and the tensors it references are released by then."""
    try:
        return (work(part, size),)
    except Exception as error:
        if part.stop - part.start == 1 or not out_of_memory(error):
            raise
        return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU (torch has no class for the latter)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = described(error)
    return isinstance(error, RuntimeError) and any(
        said in text
        for said in ("can't allocate memory", "not enough memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )


def release() -> None:
    """Release unused memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Upload:
    """Moves slices of images to the device.

    Args:
        images: (N, C, H, W), on the CPU.
        device: the target.
        ahead: copy the next slice on a separate stream during the work on one; on a GPU only.
    """

    def __init__(self, images: Tensor, device: torch.device, ahead: bool = False) -> None:
        self.images, self.device = images, device
        self.stream: torch.cuda.Stream | None = None
        if ahead and device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._next: tuple[slice, Tensor] | None = None

    def __call__(self, part: slice) -> Tensor:
        """The images of ``part`` on the device."""
        if self.stream is None:
            return self.images[part].to(self.device)
        if self._next is None or self._next[0] != part:
            self._fetch(part)
        assert self._next is not None
        x = self._next[1]
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        x.record_stream(current)
        following = slice(part.stop, min(2 * part.stop - part.start, len(self.images)))
        self._next = None
        if following.start < following.stop:
            self._fetch(following)
        return x

    def _fetch(self, part: slice) -> None:
        with torch.cuda.stream(self.stream):
            self._next = part, self.images[part].pin_memory().to(self.device, non_blocking=True)
