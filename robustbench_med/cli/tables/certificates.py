"""The certified accuracy beside the one under attack, at the same radii on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from robustbench_med.cli import console
from robustbench_med.cli.tables.records import name_of
from robustbench_med.interfaces.rate import percent
from robustbench_med.plugins.references import without_shared_params
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.records.summary import attack_of, images_and_patients, share

_FIGURES = ("eps", "clean", "certified [95%]", "attacked [95%]", "gap", "abstains", "n")


def show(records: Sequence[Record]) -> Table | console.Lines | None:
    """One row for each record with certificates; None where there is none. Figures in percent.

    The robust accuracy of the smoothed system lies between the certified and the attacked one.
    """
    rows = [record for record in records if record.status == "ok" and record.certified is not None]
    if not rows:
        return None
    names, shared = without_shared_params([formatted(record.defense) for record in rows])
    title = "   ".join(filter(None, ["Certified and attacked, L2", shared and f"all {shared}"]))
    columns = ("defense", "attack", *_FIGURES)
    found = [_cells(name, record) for name, record in zip(names, rows, strict=True)]
    table = console.filled(title, columns, found, _FIGURES)
    if isinstance(table, Table):
        table.columns[0].no_wrap = False
    return table


def _cells(name: str, record: Record) -> list[str]:
    figures = record.metrics
    return [
        name,
        attack_of(record),
        f"{record.threat.eps:.4g}",
        percent(figures.get("clean_accuracy")),
        share(record, "certified_accuracy"),
        share(record, "robust_accuracy"),
        percent(figures.get("certified_gap")),
        percent(figures.get("certified_abstained")),
        images_and_patients(record.n, record.patients),
    ]


def lines(records: Sequence[Record]) -> Iterator[str]:
    """How the certificates of each system were made; a line on radii that so few samples cannot certify."""
    told = {}
    for record in records:
        if (made := record.certified) is not None:
            told[made.sigma, made.n0, made.n, made.alpha] = made
    for made in told.values():
        yield (
            f"certificates of sigma {made.sigma:g}: {made.n} samples (and {made.n0} to choose the class), each holds "
            f"with probability {1 - made.alpha:g}; largest radius {made.largest:.3f}"
        )
    for record in records:
        if record.certified is not None and record.threat.eps > record.certified.largest:
            yield (
                f"{name_of(record)}: eps {record.threat.eps:g} is more than {record.certified.n} samples can certify; "
                "raise --n or sigma"
            )


def contradicted(records: Sequence[Record]) -> list[str]:
    """A line for each record in which an attack broke images inside their certified radius."""
    return [
        f"{name_of(record)}, eps {record.threat.eps:g}: {line}"
        for record in records
        if record.certified is not None
        for line in record.certified.warnings()
    ]
