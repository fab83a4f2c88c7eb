"""What stands in for `torch.cuda` while the pretend device exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch

from robustbench_med.testing.pretend.generator import AnyGenerator

#: Bytes of the device's memory, all of it free.
MEMORY = 2**37


class _Nothing:
    """A stream, an event, or the context of one: the program itself."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_stream(self, _: Any) -> None:
        """Streams are in order."""

    def is_capturing(self) -> bool:
        """No graph is captured."""
        return False

    def synchronize(self) -> None:
        """Work is done when it was asked for."""


def _constant(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


class _NoGradient:
    """Stands in for inference mode, in which torch cannot make tensors of a class of its own."""

    def __init__(self, mode: bool = True) -> None:
        self.context: AbstractContextManager[None] = torch.no_grad() if mode else nullcontext()

    def __enter__(self) -> None:
        self.context.__enter__()

    def __exit__(self, *failure: Any) -> None:
        self.context.__exit__(*failure)


def stand_ins() -> Iterator[tuple[Any, str, Any]]:
    """Each attribute that is replaced: its owner, its name, the replacement."""
    yield torch, "Generator", AnyGenerator
    yield torch._C, "_InferenceMode", _NoGradient
    yield torch.Tensor, "record_stream", _constant(None)
    answers: dict[str, Any] = {
        "is_available": True,
        "is_bf16_supported": True,
        "is_current_stream_capturing": False,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": "pretend device",
        "get_device_capability": (9, 0),
        "memory_allocated": 0,
        "memory_reserved": 0,
        "max_memory_allocated": 2**20,
        "max_memory_reserved": 2**20,
        "mem_get_info": (MEMORY, MEMORY),
    }
    for name, answer in answers.items():
        yield torch.cuda, name, _constant(answer)
    for name in (
        "synchronize",
        "empty_cache",
        "reset_peak_memory_stats",
        "manual_seed",
        "manual_seed_all",
        "reset_accumulated_memory_stats",
        "set_rng_state",
        "set_device",
    ):
        yield torch.cuda, name, _constant(None)
    for name in ("manual_seed", "manual_seed_all"):
        yield torch.cuda.random, name, _constant(None)
    yield torch.cuda, "get_rng_state", _constant(torch.zeros(16, dtype=torch.uint8))
    for name in ("Stream", "stream", "current_stream", "device", "Event"):
        yield torch.cuda, name, _Nothing
    yield torch.accelerator, "current_stream", _Nothing
