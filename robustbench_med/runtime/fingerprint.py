"""Notices when a module in memory is no longer what it was: an attack is given copies, and code can reach everything.

A checksum and no cryptographic digest: plugins are trusted code, and what is looked for are mistakes.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


def fingerprint(modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """A checksum of each parameter and buffer, and of the mode and hooks of each part, by their names."""
    return {f"{name}.{key}": found for name, module in modules.items() for key, found in _checksums(module)}


def changed(before: Mapping[str, int], modules: Mapping[str, nn.Module]) -> str:
    """The first name in an earlier fingerprint of which these modules have another value; empty for none.

    What a part has stored anew, such as a cached table, is no change.
    """
    now = fingerprint(modules)
    return next((name for name, found in before.items() if now.get(name) != found), "")


def _checksums(module: nn.Module) -> Iterator[tuple[str, int]]:
    named = list(itertools.chain(module.named_parameters(), module.named_buffers()))
    # All are on their way from a GPU before the first is waited for.
    copies = [tensor.detach().to("cpu", non_blocking=True) for _, tensor in named]
    if any(tensor.is_cuda for _, tensor in named):
        torch.cuda.synchronize()
    for (name, _), tensor in zip(named, copies, strict=True):
        facts = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
        yield name, zlib.crc32(_bytes(tensor), zlib.crc32(facts))
    for name, part in module.named_modules():
        hooks = sum(map(len, (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)))
        yield f"{name} (mode or hooks)", 2 * hooks + part.training


def _bytes(data: Tensor) -> memoryview:
    """The values of a tensor on the CPU, in the order in which they lie in memory."""
    # A dense tensor is read as it lies: a copy into another order would take longer than the checksum.
    dense = data.is_contiguous() or data.is_contiguous(memory_format=torch.channels_last)
    flat = data.as_strided((data.numel(),), (1,)) if dense else data.flatten()
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
