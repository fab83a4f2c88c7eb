"""Each tracker reads back what it was told; skipped where its extra is not installed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rbmed_metrics.trackers.rows import TrackerParams, cells
from robustbench_med.errors import BadParameter

TABLE = pd.DataFrame(
    [
        {"status": "ok", "cell_id": "c1", "seed": 0, "robust_accuracy": 0.5, "detector_auroc": None},
        {
            "status": "ok",
            "cell_id": "c2",
            "seed": 1,
            "robust_accuracy": 0.25,
            "detector_auroc": 0.9,
            "train_seed": None,
        },
        {"status": "skipped", "cell_id": "c3", "seed": 0, "robust_accuracy": None},
    ]
).assign(dataset="brainsim", defense="d", attack="apgd", access="full", norm="linf", eps=4 / 255)


def params(folder: Path) -> TrackerParams:
    return TrackerParams(folder=folder, project="p")


def test_measured_cells_have_a_name_facts_and_numbers() -> None:
    first, second = cells(TABLE)
    assert (first.key, first.name) == ("c1", "d / apgd / full / linf 4/255 / seed 0")
    assert first.metrics == {"robust_accuracy": 0.5}
    assert second.metrics == {"robust_accuracy": 0.25, "detector_auroc": 0.9}
    assert second.facts["cell_id"] == "c2"


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from rbmed_metrics.trackers.tensorboard import TensorBoard

    for _ in range(2):  # the second time in place of the first
        assert TensorBoard(params(tmp_path)).render(TABLE).startswith("2 runs for TensorBoard")
    found = EventAccumulator(str(tmp_path / "p" / "c2")).Reload()
    assert [event.value for event in found.Scalars("robust_accuracy")] == [0.25]


def test_mlflow_reads_the_runs(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow.tracking import MlflowClient

    from rbmed_metrics.trackers.mlflow import MLflow

    for _ in range(2):
        assert MLflow(params(tmp_path)).render(TABLE).startswith("2 runs for MLflow")
    client = MlflowClient(tracking_uri=tmp_path.as_uri())
    runs = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    assert {run.data.params["cell_id"]: run.data.metrics["robust_accuracy"] for run in runs} == {"c1": 0.5, "c2": 0.25}


def test_wandb_writes_offline_runs(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from rbmed_metrics.trackers.wandb import WeightsAndBiases

    assert WeightsAndBiases(params(tmp_path)).render(TABLE).startswith("2 runs for Weights & Biases")
    assert len(list((tmp_path / "wandb").glob("offline-run-*-c?"))) == 2


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    from rbmed_metrics.trackers.rows import folder_of

    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(BadParameter, match="cannot be written to"):
        folder_of(params(tmp_path / "file"))
