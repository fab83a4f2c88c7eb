"""The certified accuracy beside the one under attack, at the same radii on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from robustbench_med.cli import console
from robustbench_med.cli.tables.records import name_of
from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.ranking.certified import certified_boards
from robustbench_med.leaderboard.render.columns import with_interval
from robustbench_med.plugins.references import without_shared_params
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.records.summary import attack_of, images_and_patients, share

_FIGURES = ("eps", "clean", "certified [95%]", "attacked [95%]", "gap", "abstains", "n")
#: What a narrow terminal still shows, and what it leaves out first.
_KEPT = ("eps", "fold", "certified [95%]")
_FIRST_TO_GO = ("n", "abstains", "clean", "gap", "attack", "attacked [95%]")


def show(records: Sequence[Record]) -> Table | console.Lines | None:
    """One row for each record with certificates; None where there is none. Figures in percent.

    The robust accuracy of the smoothed system lies between the certified and the attacked one. The folds of a
    cross-validation are pooled in one row, as on the leaderboard's page, and follow it, one a row.
    """
    rows = [record for record in records if record.status == "ok" and record.certified is not None]
    if not rows:
        return None
    names, shared = without_shared_params([formatted(record.defense) for record in rows])
    named = dict(zip((id(record) for record in rows), names, strict=True))
    title = "   ".join(filter(None, ["Certified and attacked, L2", shared and f"all {shared}"]))
    cells = []
    for own in _with_their_folds(rows):
        if own[0].dataset.fold is None:
            cells += [_cells(named[id(record)], record) for record in own]
        else:
            cells.append(_pooled(named[id(own[0])], own))
            cells += [_cells("", record) | {"attack": ""} for record in own]
    folded = any(record.dataset.fold is not None for record in rows)
    columns = ("defense", "attack", *(("fold",) if folded else ()), *_FIGURES)
    found = [[row[column] for column in columns] for row in cells]
    kept = (*_KEPT, *console.telling_apart(columns, found, _FIGURES))
    table = console.filled(title, columns, found, _FIGURES, keep=kept, first_to_go=_FIRST_TO_GO)
    if isinstance(table, Table):
        table.columns[0].no_wrap = False
    return table


def _with_their_folds(rows: Sequence[Record]) -> list[list[Record]]:
    """Each record alone, and the folds of one row of the leaderboard together."""
    pools = [row.records for board in certified_boards(rows) for row in board.rows]
    place = {record.cell_id: at for at, pool in enumerate(pools) for record in pool}
    found: dict[object, list[Record]] = {}
    for record in rows:
        key = id(record) if record.dataset.fold is None else place.get(record.cell_id, record.cell_id)
        found.setdefault(key, []).append(record)
    return list(found.values())


def _pooled(name: str, folds: Sequence[Record]) -> dict[str, str]:
    """A row of what was measured in all folds; how many these are, where some are missing."""
    first, fold = folds[0], folds[0].dataset.fold
    ((bounds,),) = (board.rows for board in certified_boards(folds))
    images = sum(record.n for record in folds)
    patients = [record.patients for record in folds if record.patients is not None]
    assert fold is not None
    return {
        **_cells(name, first),
        "fold": f"all {fold.of}" if len(folds) == fold.of else f"{len(folds)} of {fold.of}",
        "clean": percent(bounds.clean.value if bounds.clean else None),
        "certified [95%]": with_interval(bounds.certified),
        "attacked [95%]": with_interval(bounds.attacked),
        "gap": percent(bounds.gap),
        "abstains": percent(bounds.abstained / images),
        "n": images_and_patients(images, sum(patients) if len(patients) == len(folds) else None),
    }


def _cells(name: str, record: Record) -> dict[str, str]:
    figures = record.metrics
    return {
        "defense": name,
        "attack": attack_of(record),
        "fold": str(record.dataset.fold.number) if record.dataset.fold else "",
        "eps": f"{record.threat.eps:.4g}",
        "clean": percent(figures.get("clean_accuracy")),
        "certified [95%]": share(record, "certified_accuracy"),
        "attacked [95%]": share(record, "robust_accuracy"),
        "gap": percent(figures.get("certified_gap")),
        "abstains": percent(figures.get("certified_abstained")),
        "n": images_and_patients(record.n, record.patients),
    }


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
