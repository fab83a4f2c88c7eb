"""Metrics of a cell, and reports of records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from robustbench_med.interfaces.component import Component

if TYPE_CHECKING:
    import pandas as pd

    from robustbench_med.interfaces.results import Outcome


class Metric(Component, ABC):
    """Figures of one cell."""

    @abstractmethod
    def compute(self, outcome: Outcome) -> dict[str, Any]:
        """Named figures: floats, None where undefined, or `robustbench_med.interfaces.results.Rate` for shares."""


class Report(Component, ABC):
    """A format for tables of records.

    Attributes:
        pools_folds: whether it is given the folds of a cross-validation as one row of all their images, since its
            figures are of a data set; else each fold is a row.
    """

    pools_folds: ClassVar[bool] = False

    @abstractmethod
    def render(self, table: pd.DataFrame) -> str:
        """The table as text in the report's format; one row a cell, see `robustbench_med.records.table`."""
