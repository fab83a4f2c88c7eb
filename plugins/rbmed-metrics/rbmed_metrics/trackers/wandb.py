"""Records for Weights & Biases, offline: they are sent only if someone runs ``wandb sync``."""

from __future__ import annotations

import pandas as pd
import wandb

from rbmed_metrics.trackers.rows import TrackerParams, cells, folder_of, told
from robustbench_med import Report


class WeightsAndBiases(Report):
    """An offline run for each cell: its facts as configuration, its metrics as summary."""

    Params = TrackerParams

    def render(self, table: pd.DataFrame) -> str:
        """Write a run for each measured cell."""
        folder = folder_of(self.params)
        found = list(cells(table))
        for cell in found:
            run = wandb.init(
                project=self.params.project,
                name=cell.name,
                id=cell.key,
                config=cell.facts,
                dir=str(folder),
                mode="offline",
                reinit="finish_previous",
                settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
            )
            run.log(cell.metrics)
            run.finish()
        return told(len(found), "Weights & Biases", f"wandb sync {folder}/wandb/offline-run-*")
