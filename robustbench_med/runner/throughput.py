"""What plans have counted and timed on this machine, kept: a forecast then costs only the loading of what it is of.

The file is in ``RBMED_HOME/throughput``, one for each state of the code and hardware; it may be deleted at any time.
"""

from __future__ import annotations

import json
import math
from collections import UserDict
from contextlib import suppress
from typing import Any

import torch

from robustbench_med.defenses.resolved import key_of
from robustbench_med.errors import StoreError
from robustbench_med.files.atomic import write_text
from robustbench_med.files.paths import home

#: Seconds for each image that a call takes, or the figures of a `robustbench_med.runner.trial.Calls`.
Figures = tuple[float, ...]


class Throughput(UserDict[str, Figures]):
    """Figures by the key of a trial; read at once, written by `save`.

    Args:
        stamp: of the code and the hardware, as `robustbench_med.runtime.cache.stamp` makes it.
    """

    def __init__(self, stamp: str) -> None:
        super().__init__()
        self.path = home() / "throughput" / f"{key_of([stamp, torch.get_num_threads()])}.json"
        self._new = False
        with suppress(OSError, ValueError):
            found: Any = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                self.data = {key: tuple(figures) for key, figures in found.items() if _valid(figures)}

    def save(self) -> None:
        """Write what is new; a folder that cannot be written to is no reason to fail."""
        if self._new:
            with suppress(StoreError, OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(self.data, sort_keys=True))
            self._new = False

    def __setitem__(self, key: str, figures: Figures) -> None:
        super().__setitem__(key, figures)
        self._new = True


def _valid(figures: Any) -> bool:
    return isinstance(figures, list) and all(
        isinstance(value, float) and math.isfinite(value) and value >= 0 for value in figures
    )
