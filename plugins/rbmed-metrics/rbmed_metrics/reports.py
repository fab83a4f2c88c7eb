"""Tables of records as text."""

from __future__ import annotations

import pandas as pd

from robustbench_med import Report, escape_markdown, to_csv


class Markdown(Report):
    """A pipe table, shares in percent with one decimal."""

    def render(self, table: pd.DataFrame) -> str:
        """The table as Markdown."""
        cells = [[_shown(value) for value in row] for row in table.itertuples(index=False)]
        head = [escape_markdown(str(column)) for column in table.columns]
        lines = [head, ["---"] * len(head), *cells]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


class CSV(Report):
    """Comma-separated values, unrounded."""

    def render(self, table: pd.DataFrame) -> str:
        """The table as CSV."""
        return to_csv(table)


def _shown(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape_markdown(str(value))
