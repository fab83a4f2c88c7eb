"""``rbmed verify``: run cells again from their records, and compare."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import emit_json, err, notes, out, plain
from robustbench_med.cli.options import DataRoot, PluginFiles, RecordDevice, RecordWeights, Sample, SampleSeed, registry
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.errors import BadParameter, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustbench_med.records.record import Record
    from robustbench_med.reproduction.verify import Finding


@app.command(rich_help_panel=RESULTS)
def verify(
    results: Annotated[Path, typer.Argument(help="Folder of results, or a file of records.")],
    sample: Sample = None,
    sample_seed: SampleSeed = 0,
    cell: Annotated[
        list[str] | None, typer.Option(help="Verify the cell whose id begins with this. May be repeated.")
    ] = None,
    device: RecordDevice = None,
    weights: RecordWeights = None,
    data_root: DataRoot = None,
    train: Annotated[bool, typer.Option("--train", help="Train weights that are not here.")] = False,
    accept_within: Annotated[
        bool, typer.Option("--accept-within", help="Accept figures that are within sampling error on other hardware.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Run cells again from what their records say; exit code 1 if one is not reproduced."""
    from robustbench_med.records.folder import SAMPLES, open_results
    from robustbench_med.reproduction.verify import Verifier

    found = open_results(results)
    measured = _chosen([record for record in found if record.status != "failed"], cell or [], sample, sample_seed)
    if failed := len(found) - sum(record.status != "failed" for record in found):
        err.print(f"{failed} failed cells have no results and are not verified")
    samples = (results if results.is_dir() else results.parent) / SAMPLES
    verifier = Verifier(registry(plugin), device, data_root, RichProgress(), train)
    findings = []
    for record in measured:
        finding = verifier.verify(record, samples, weights)
        findings.append(finding)
        if not as_json:
            show_finding(finding)
    if as_json:
        emit_json([{"cell_id": f.record.cell_id, "verdict": f.verdict, "notes": f.notes} for f in findings])
    if not as_json:
        out.print(counted(findings))
    accepted = ("identical", "within") if accept_within else ("identical",)
    if any(finding.verdict not in accepted for finding in findings):
        raise typer.Exit(1)


def counted(findings: Sequence[Finding]) -> str:
    """How many cells are verified, and how many are only within sampling error."""
    within = sum(finding.verdict == "within" for finding in findings)
    text = f"{sum(finding.verified for finding in findings)} of {len(findings)} cells are verified"
    return text + (f"; {within} within sampling error only, which is no proof" if within else "")


def show_finding(finding: Finding) -> None:
    """One line for a cell, and the differences."""
    from robustbench_med.cli.tables.records import name_of

    plain(f"{finding.verdict:<10} {finding.record.cell_id}  {name_of(finding.record)}")
    notes(finding.notes)


def _chosen(records: list[Record], cells: list[str], sample: int | None, seed: int) -> list[Record]:
    for prefix in cells:
        fitting = sum(record.cell_id.startswith(prefix) for record in records)
        if fitting != 1:
            raise BadParameter(
                f"--cell {prefix}: {fitting} measured cells have an id that begins with this; name exactly one"
            )
    if cells:
        records = [record for record in records if record.cell_id.startswith(tuple(cells))]
    if sample is not None and sample < len(records):
        drawn = set(random.Random(seed).sample(range(len(records)), sample))
        records = [record for at, record in enumerate(records) if at in drawn]
    if not records:
        raise DataError("there is nothing to verify: the results hold no measured cell")
    return records
