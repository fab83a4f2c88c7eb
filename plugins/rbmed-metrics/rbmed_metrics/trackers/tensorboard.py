"""Records for TensorBoard."""

from __future__ import annotations

import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from rbmed_metrics.trackers.rows import TrackerParams, cells, folder_of, told
from robustbench_med import Report


class TensorBoard(Report):
    """A folder of events for each cell: its facts as text, its metrics as scalars."""

    Params = TrackerParams

    def render(self, table: pd.DataFrame) -> str:
        """Write the events of each measured cell; a cell that is there already is written again."""
        folder = folder_of(self.params) / self.params.project
        found = list(cells(table))
        for cell in found:
            place = folder / cell.key
            for old in place.glob("events.out.tfevents.*"):
                old.unlink()
            with SummaryWriter(str(place)) as writer:
                lines = [f"| {name} | {text} |" for name, text in cell.facts.items() if text]
                writer.add_text("cell", "\n".join([f"**{cell.name}**\n", "| | |", "|---|---|", *lines]))
                for name, value in cell.metrics.items():
                    writer.add_scalar(name, value)
        return told(len(found), "TensorBoard", f"tensorboard --logdir {folder}")
