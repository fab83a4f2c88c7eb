"""Results that cells share are computed once: clean predictions, adversarial images for transfer.

They are stored in ``RBMED_HOME/shared`` under a hash of everything they depend on, including the code. A file that is
damaged, or that other code wrote, is computed again; the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_med.files import checksummed
from robustbench_med.files.paths import home
from robustbench_med.files.provenance import hardware, versions
from robustbench_med.plugins.registry import Registry


def stamp(registry: Registry, device: torch.device) -> str:
    """A hash of the code that computes results and of the hardware."""
    packages = {entry.spec.target.partition(".")[0].partition(":")[0] for entry in registry.entries()}
    code = {name: _code(name) for name in sorted({"robustbench_med", *packages})}
    plugins = sorted({(entry.distribution, entry.version) for entry in registry.entries()})
    facts = [versions(), code, plugins, hardware(device), str(device)]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


@cache
def _code(package: str) -> str:
    """A hash of a package's source files, without importing it; empty if there is no such package."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class SharedResults:
    """Facts and tensors, cached by everything they depend on.

    Args:
        stamp: of the code and the hardware.
        folder: of the cache.
    """

    def __init__(self, stamp: str, folder: Path | None = None) -> None:
        self.stamp, self.folder = stamp, folder or home() / "shared"

    def get(self, what: Any, make: Callable[[], tuple[Any, dict[str, Tensor]]]) -> tuple[Any, dict[str, Tensor]]:
        """The result for ``what`` (JSON-serialisable, everything it depends on), computed now or earlier."""
        text = json.dumps(what, sort_keys=True, default=str) + self.stamp
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        path = self.folder / key[:2] / key
        data = checksummed.read(path, self.stamp)
        if data is not None:
            return checksummed.unpack(data)
        made = make()
        with suppress(OSError):  # on a full disk, the next cell repeats this work
            checksummed.write(path, checksummed.pack(*made), self.stamp)
        return made
