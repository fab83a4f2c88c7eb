"""Specs of the first-party metrics and reports."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from robustbench_med import MetricSpec, ReportSpec, hookimpl

#: Reports for trackers, called by their import names.
TRACKERS = (
    ReportSpec(
        name="mlflow",
        target="rbmed_metrics.trackers.mlflow:MLflow",
        summary="Runs for MLflow in a store of files: --report mlflow:folder=mlruns",
    ),
    ReportSpec(
        name="wandb",
        target="rbmed_metrics.trackers.wandb:WeightsAndBiases",
        summary="Offline runs for Weights & Biases, which are sent only by wandb sync",
    ),
    ReportSpec(
        name="tensorboard",
        target="rbmed_metrics.trackers.tensorboard:TensorBoard",
        summary="Events for TensorBoard: a folder for each cell",
    ),
)


@hookimpl
def rbmed_metrics() -> Iterator[MetricSpec]:
    """Figures of every record."""
    yield MetricSpec(
        name="classification",
        target="rbmed_metrics.classification:Classification",
        summary="Clean and robust accuracy, balanced accuracy, sensitivity, specificity, lesion rates",
    )
    yield MetricSpec(
        name="findings",
        target="rbmed_metrics.tasks:Findings",
        summary="Multi-label tasks: macro AUC, F1 and balanced accuracy, clean and under attack",
    )
    yield MetricSpec(
        name="grades",
        target="rbmed_metrics.tasks:Grades",
        summary="Ordinal tasks: mean absolute error, quadratic weighted kappa, share off by more than one grade",
    )
    yield MetricSpec(
        name="detection",
        target="rbmed_metrics.detection:Detection",
        summary="Detector AUROC, FPR at the threshold, TPR at the threshold and at 1 % and 5 % FPR",
    )
    yield MetricSpec(
        name="purification",
        target="rbmed_metrics.detection:Purification",
        summary="Share of images flagged and changed, size of the change, cost of rejection",
    )
    yield MetricSpec(
        name="certification",
        target="rbmed_metrics.classification:Certification",
        summary="Certified accuracy at eps, its distance to the attacked accuracy, abstentions, mean radius",
    )


@hookimpl
def rbmed_reports() -> Iterator[ReportSpec]:
    """Formats of a table of records."""
    yield ReportSpec(
        name="markdown", target="rbmed_metrics.reports:Markdown", summary="A table for a README or a paper's repository"
    )
    yield ReportSpec(name="csv", target="rbmed_metrics.reports:CSV", summary="Comma-separated values, unrounded")
    yield ReportSpec(
        name="seeds",
        target="rbmed_metrics.seeds:Seeds",
        summary="One Markdown row per data set, defense, strategy and attack: mean and range over training seeds",
    )
    yield ReportSpec(
        name="detectors",
        target="rbmed_metrics.detectors:Detectors",
        summary="Markdown, detectors compared under each attack: AUROC, TPR at 1 % and 5 % FPR, missed wrong answers",
    )
    yield ReportSpec(
        name="corruptions",
        target="rbmed_metrics.corruptions:Corruptions",
        summary="Markdown, corruptions as in MedMNIST-C: balanced errors over severities, relative to a baseline",
    )
    yield from (spec for spec in TRACKERS if find_spec(spec.name))
