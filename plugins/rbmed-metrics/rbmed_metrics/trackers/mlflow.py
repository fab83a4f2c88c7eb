"""Records for MLflow, in a store of files."""

from __future__ import annotations

import os

import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from rbmed_metrics.trackers.rows import TrackerParams, cells, folder_of, told
from robustbench_med import Report


class MLflow(Report):
    """A run for each cell: its facts as parameters, its metrics."""

    Params = TrackerParams

    def render(self, table: pd.DataFrame) -> str:
        """Write a run for each measured cell; one that is there already is not written twice."""
        folder = folder_of(self.params)
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files need no server and no database
        client = MlflowClient(tracking_uri=folder.absolute().as_uri())
        experiment = client.get_experiment_by_name(self.params.project)
        number = experiment.experiment_id if experiment else client.create_experiment(self.params.project)
        found = list(cells(table))
        for cell in found:
            for old in client.search_runs([number], f"tags.cell_id = '{cell.key}'"):
                client.delete_run(old.info.run_id)
            run = client.create_run(number, run_name=cell.name)
            client.log_batch(
                run.info.run_id,
                metrics=[Metric(name, value, run.info.start_time, 0) for name, value in cell.metrics.items()],
                params=[Param(name, text) for name, text in cell.facts.items()],
                tags=[RunTag("cell_id", cell.key)],
            )
            client.set_terminated(run.info.run_id)
        return told(len(found), "MLflow", f"mlflow ui --backend-store-uri {folder}")
