"""Data sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from robustbench_med.data import DataCard, Split
from robustbench_med.interfaces.component import Component
from robustbench_med.progress import Progress, Silent


class Dataset(Component, ABC):
    """A data set, split by patient group into train, calibration and test.

    Args:
        params: the validated parameters.
        root: folder of the user's images for data sets that need one (the harness resolves it), else None.
        progress: opens progress bars for slow preparation.
    """

    def __init__(self, params: Any = None, root: Path | None = None, progress: Progress | None = None) -> None:
        super().__init__(params)
        self.root = root
        self.progress = progress or Silent()

    @abstractmethod
    def card(self) -> DataCard:
        """The data card; cheap enough to be asked for often (the result is cached by the data set)."""

    @abstractmethod
    def split(self, name: str) -> Split:
        """The split ``train``, ``calibration`` or ``test``; only that split is prepared."""

    def check(self) -> list[str]:
        """Look at every file; return one line per problem (empty: all is well). Used by ``rbmed data check``."""
        return []
