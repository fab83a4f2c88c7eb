"""``rbmed verify``: run cells again from their records, and compare."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import emit_json, err, notes, out, plain
from robustbench_med.cli.options import (
    Cells,
    DataRoot,
    PluginFiles,
    RecordDevice,
    RecordWeights,
    Sample,
    SampleSeed,
    downloaded,
    registry,
)
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.errors import BadParameter, DataError, UsageError
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustbench_med.records.record import Record
    from robustbench_med.reproduction.fresh_images import FreshFinding
    from robustbench_med.reproduction.verify import Finding, Verifier

Train = Annotated[bool, typer.Option("--train", help="Train weights that are not here.")]
FreshSource = Annotated[
    str | None,
    typer.Option(
        "--fresh",
        metavar="new|SEED|FOLDER",
        help="Also run on images that nobody has seen: the simulator with a new seed, or a held-back folder.",
    ),
]


@app.command(rich_help_panel=RESULTS)
def verify(
    results: Annotated[Path, typer.Argument(help="Folder of results, or a file of records.")],
    sample: Sample = None,
    sample_seed: SampleSeed = 0,
    cell: Cells = None,
    device: RecordDevice = None,
    weights: RecordWeights = None,
    data_root: DataRoot = None,
    train: Train = False,
    fresh: FreshSource = None,
    accept_within: Annotated[
        bool, typer.Option("--accept-within", help="Accept figures that are within sampling error on other hardware.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Run cells again from what their records say; exit code 1 if one is not reproduced, or falls on new images."""
    from robustbench_med.records.folder import open_results, samples_of

    found = open_results(results)
    from robustbench_med.reproduction.verify import Verifier  # after it: torch, which a wrong folder need not wait for

    weights = downloaded(weights)
    measured = chosen([record for record in found if record.status != "failed"], cell, sample, sample_seed)
    if failed := len(found) - sum(record.status != "failed" for record in found):
        err.print(f"{plural(failed, 'failed cell has', 'failed cells have')} no results to verify")
    samples = samples_of(results)
    verifier = Verifier(registry(plugin), device, data_root, RichProgress(), train)
    tried = NewImages(verifier, fresh, weights)
    findings: list[Finding] = []
    for record in measured:
        finding = verifier.verify(record, samples, weights)
        if not as_json:
            show_finding(finding, findings)
        findings.append(finding)
        new = tried.on(record)
        if new is not None and not as_json:
            show_fresh(new)
    if as_json:
        emit_json([_facts(finding, tried.found.get(finding.record.cell_id)) for finding in findings])
    if not as_json:
        out.print(counted(findings))
    accepted = ("identical", "within") if accept_within else ("identical",)
    tried.end(all(finding.verdict in accepted for finding in findings))


class NewImages:
    """Cells on images that nobody has seen, where that was asked for.

    Args:
        verifier: finds data and weights.
        source: of the images; None for none.
        weights: their folder, if it was named.

    Raises:
        BadParameter: the source is none.
    """

    def __init__(self, verifier: Verifier, source: str | None, weights: Path | None) -> None:
        from robustbench_med.reproduction.fresh_images import checked_source

        self.verifier, self.weights = verifier, weights
        self.source = None if source is None else checked_source(source)
        self.found: dict[str, FreshFinding] = {}
        self.impossible = False
        self.said: set[str] = set()

    def on(self, record: Record) -> FreshFinding | None:
        """The cell of a record on new images; None where that was not asked for, or is not possible, which is said."""
        from robustbench_med.reproduction.fresh_images import fresh

        if self.source is None or record.status != "ok":
            return None
        try:
            found = fresh(self.verifier, record, self.source, self.weights)
        except UsageError as error:
            self.impossible = True
            told = "as above" if str(error) in self.said else str(error)
            self.said.add(str(error))
            err.print(f"error: {record.cell_id}: {told}", markup=False, soft_wrap=True)
            return None
        self.found[record.cell_id] = found
        return found

    def end(self, holds: bool) -> None:
        """Exit code 2 if new images were not possible, 1 if a cell does not hold or falls on them."""
        if self.impossible:
            raise typer.Exit(2)
        if not holds or any(new.falls for new in self.found.values()):
            raise typer.Exit(1)


def _facts(finding: Finding, new: FreshFinding | None) -> dict[str, Any]:
    """A finding for programs."""
    facts: dict[str, Any] = {"cell_id": finding.record.cell_id, "verdict": finding.verdict, "notes": finding.notes}
    if new is not None:
        facts["fresh"] = {"source": new.source, "n": new.again.n, **new.figures, "falls": new.falls}
    return facts


def show_fresh(new: FreshFinding) -> None:
    """One line for what a cell does on new images."""
    from robustbench_med.records.summary import with_bounds

    again, told = new.again, []
    for side in ("clean", "robust"):
        name = f"{side}_accuracy"
        before, after = percent(new.record.metrics[name]), with_bounds(again.metrics[name], again.intervals[name])
        told.append(f"{side} {before} -> {after}" + ", significantly lower" * (name in new.falls))
    plain(f"fresh      {new.record.cell_id}  {'; '.join(told)}; {plural(again.n, 'image')}, {new.source}")


def counted(findings: Sequence[Finding]) -> str:
    """How many cells are verified, and how many are only within sampling error."""
    within = sum(finding.verdict == "within" for finding in findings)
    text = (
        f"{sum(finding.verified for finding in findings)} of {plural(len(findings), 'cell is', 'cells are')} verified"
    )
    return text + (f"; {within} within sampling error only, which is no proof" if within else "")


def show_finding(finding: Finding, before: Sequence[Finding] = ()) -> None:
    """One line for a cell, and the differences; why it is impossible only once, for the cells ``before`` it as well."""
    from robustbench_med.cli.tables.records import name_of

    said = finding.verdict == "impossible" and any(finding.notes == each.notes for each in before)
    again = "  (as above)" if said else ""
    plain(f"{finding.verdict:<10} {finding.record.cell_id}  {name_of(finding.record)}{again}")
    if not said:
        notes(finding.notes)


def chosen(records: list[Record], cells: list[str] | None, sample: int | None, seed: int) -> list[Record]:
    """Of these records those whose cells are named, or a sample.

    Raises:
        BadParameter: a name is not of exactly one.
        DataError: there are none.
    """
    for prefix in cells or ():
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
