"""Semicolon-separated values."""

import pandas as pd

import robustbench_med as rbmed


class Example(rbmed.Report):
    """One line per cell, for spreadsheets whose decimal separator is a comma."""

    class Params(rbmed.Params):
        """Parameters of the report."""

        digits: int = rbmed.Field(4, ge=1, description="Decimal places of figures.")

    def render(self, table: pd.DataFrame) -> str:
        """The table as text."""
        return rbmed.to_csv(table, sep=";", float_format=f"%.{self.params.digits}f")
