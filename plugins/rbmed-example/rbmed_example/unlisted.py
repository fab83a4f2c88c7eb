"""Further components to copy. No entry point names this module, so they are not installed.

`rbmed new` copies its hooks; the tests load them all.
"""

from collections.abc import Iterator

import robustbench_med as rbmed


@rbmed.hookimpl
def rbmed_detectors() -> Iterator[rbmed.DetectorSpec]:
    yield rbmed.DetectorSpec(
        name="example", target="rbmed_example.detector:Example", summary="to copy: small-scale roughness"
    )


@rbmed.hookimpl
def rbmed_purifiers() -> Iterator[rbmed.PurifierSpec]:
    yield rbmed.PurifierSpec(
        name="example",
        target="rbmed_example.purifier:Example",
        summary="to copy: moving average, blended in by strength",
    )


@rbmed.hookimpl
def rbmed_strategies() -> Iterator[rbmed.StrategySpec]:
    yield rbmed.StrategySpec(
        name="example",
        target="rbmed_example.strategy:Example",
        summary="to copy: one local step a round, plain averages",
    )


@rbmed.hookimpl
def rbmed_datasets() -> Iterator[rbmed.DatasetSpec]:
    yield rbmed.DatasetSpec(
        name="example",
        target="rbmed_example.dataset:Example",
        summary="to copy: white squares on noise (synthetic)",
        licence="CC0-1.0",
        synthetic=True,
    )


@rbmed.hookimpl
def rbmed_models() -> Iterator[rbmed.ModelSpec]:
    yield rbmed.ModelSpec(
        name="example", target="rbmed_example.model:Example", summary="to copy: two convolutions and a linear layer"
    )


@rbmed.hookimpl
def rbmed_defenses() -> Iterator[rbmed.DefenseSpec]:
    yield rbmed.DefenseSpec(
        name="example", target="rbmed_example.defense:Example", summary="to copy: a classifier behind a median filter"
    )


@rbmed.hookimpl
def rbmed_metrics() -> Iterator[rbmed.MetricSpec]:
    yield rbmed.MetricSpec(
        name="example",
        target="rbmed_example.metric:Example",
        summary="to copy: share of correct predictions that the attack makes wrong",
    )


@rbmed.hookimpl
def rbmed_reports() -> Iterator[rbmed.ReportSpec]:
    yield rbmed.ReportSpec(
        name="example", target="rbmed_example.report:Example", summary="to copy: semicolon-separated values"
    )
