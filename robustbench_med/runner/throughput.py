"""How long calls take on this machine, kept between plans: a forecast then costs only the loading of what it is of.

The file is in ``RBMED_HOME/throughput``, one for each hardware and set of versions; it may be deleted at any time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import Any

import torch

from robustbench_med.defenses.resolved import key_of
from robustbench_med.errors import StoreError
from robustbench_med.files.atomic import write_text
from robustbench_med.files.paths import home
from robustbench_med.files.provenance import hardware, versions


class Throughput(MutableMapping[str, float]):
    """Seconds for each image by the key of a call; read at once, written by `save`.

    Args:
        device: where the calls run.
        batch: images per chunk.
    """

    def __init__(self, device: torch.device, batch: int) -> None:
        facts = [versions(), hardware(device), str(device), torch.get_num_threads(), batch]
        self.path = home() / "throughput" / f"{key_of(facts)}.json"
        self._known: dict[str, float] = {}
        self._new = False
        with suppress(OSError, ValueError):
            found: Any = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                self._known = {key: value for key, value in found.items() if _valid(value)}

    def save(self) -> None:
        """Write what is new; a folder that cannot be written to is no reason to fail."""
        if self._new:
            with suppress(StoreError, OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(self._known, indent=0, sort_keys=True))
            self._new = False

    def __getitem__(self, key: str) -> float:
        return self._known[key]

    def __setitem__(self, key: str, value: float) -> None:
        self._known[key], self._new = value, True

    def __delitem__(self, key: str) -> None:
        del self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _valid(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value >= 0
