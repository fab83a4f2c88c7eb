"""The page of bad images: MRI artefacts chosen by an adversary, the same by chance, and corruptions by severity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking.acquisition import ALL, Artefacts, acquisition_boards
from robustbench_med.leaderboard.ranking.corruptions import (
    BASELINE,
    SEVERITIES,
    Corrupted,
    CorruptionBoard,
    corruption_boards,
)
from robustbench_med.leaderboard.ranking.studies import StudyBoard
from robustbench_med.leaderboard.render.columns import with_interval
from robustbench_med.leaderboard.render.page import charts
from robustbench_med.leaderboard.render.studies.rerun import again, cells, measured_with
from robustbench_med.leaderboard.render.studies.view import (
    Cell,
    Column,
    Line,
    Study,
    Table,
    Titles,
    figure_facts,
    points,
    share,
)
from robustbench_med.leaderboard.sources.studies import CORRUPTIONS, StudySources
from robustbench_med.records.summary import images_of

READ = (
    "Worst case: artefacts of an MRI scan inside stated physical limits, chosen by an adversary who searches them by "
    "gradients. Its control is chance: the same artefacts at the same limits, drawn at random.",
    "Corruptions are drawn by chance, at severities from 1 to 5, without an adversary. Their control is the clean "
    "column, where nothing is corrupted.",
    f"BE is the balanced error, in percent, mean over the severities; CE is BE relative to that of {BASELINE}, and rCE "
    "the same of the errors beyond those on clean images, as MedMNIST-C reports them.",
)
CHOSEN = (
    Column("Clean %", "Accuracy without any artefact."),
    Column("Chosen %", "Worst case: accuracy under the artefacts that the adversary chose."),
    Column("By chance % (control)", "Accuracy under one random choice of the same artefacts, at the same limits."),
    Column("Difference", "By chance minus chosen, in points."),
    Column("Random search %", "Accuracy under the best of many random choices."),
)
BY_SEVERITY = (
    Column("Clean %", "Balanced accuracy on clean images, where nothing is corrupted."),
    Column("Kept %", "Images that stay right, mean over the severities, with its interval over patients."),
    *(
        Column(f"Severity {severity}", f"Balanced accuracy in percent at severity {severity}.")
        for severity in SEVERITIES
    ),
    Column("BE", "Balanced error in percent, mean over the severities."),
    Column("CE", f"BE relative to that of {BASELINE}, in percent."),
    Column("rCE", "The same of the errors beyond those on clean images."),
)


def corruptions_study(source: StudySources, titles: Titles) -> Study | None:
    """The page; None where nothing of the kind was measured."""
    chosen = acquisition_boards(source.records, source.outcomes)
    drawn = corruption_boards(source.records, source.outcomes)
    if not chosen and not drawn:
        return None
    records = [record for board in chosen for row in board.rows for record in row.records]
    records += [record for board in drawn for row in board.rows for record in row.records]
    return Study(
        id=CORRUPTIONS,
        title="Bad scans, by chance and at worst",
        question="Does it fail on a bad scan, and on the worst one that the scanner allows?",
        learned=_learned(chosen, drawn, titles),
        read=READ,
        tables=[
            *(_chosen(board, titles) for board in chosen),
            *(table for board in drawn for table in _drawn(board, titles)),
        ],
        measured=measured_with(records),
        docs="acquisition.md",
        facts=[
            *(_chosen_facts(board, row) for board in chosen for row in board.rows),
            *(_drawn_facts(board, row) for board in drawn for row in board.rows if row.name),
        ],
    )


def _learned(chosen: Sequence[StudyBoard[Artefacts]], drawn: Sequence[CorruptionBoard], titles: Titles) -> str:
    """The largest difference between chosen artefacts and chance; else the corruption that costs most."""
    rows = [row for board in chosen for row in board.rows if row.difference is not None]
    if rows:
        most = max(rows, key=lambda row: row.difference or 0.0)
        what = "MRI artefacts" if most.physics == ALL else f"MRI artefacts ({most.physics})"
        return (
            f"{what} drawn at random leave {with_interval(most.chance)} % of the images of {titles.of(most.system)}; "
            f"chosen by an adversary within the same physical limits, {with_interval(most.worst)} %."
        )
    named = [row for board in drawn for row in board.rows if row.name]
    worst = max(named, key=lambda row: row.be)
    return f"{worst.name} costs {titles.of(worst.system)} most: {with_interval(worst.kept)} % of the images stay right."


def _chosen(board: StudyBoard[Artefacts], titles: Titles) -> Table:
    return Table(
        f"Worst-case acquisition: {titles.board(board.title)}",
        f"{images_of(board.images, board.patients)}.",
        "Artefacts",
        CHOSEN,
        [
            Line(
                row.physics,
                [
                    share(row.clean),
                    share(row.worst),
                    share(row.chance),
                    points(row.difference),
                    Cell(share(row.search).text, row.search, f"best of {row.tries}" if row.search else ""),
                ],
                f"{titles.both(row.system)}, {row.access}",
                charts.interval_bar(row.worst, "worst", row.chance.value if row.chance else None),
            )
            for row in board.rows
        ],
        again=[(f"{row.physics}: {titles.of(row.system)}", again(row.records)) for row in board.rows],
    )


def _drawn(board: CorruptionBoard, titles: Titles) -> list[Table]:
    """A table for each system, as it is accessed."""
    systems = dict.fromkeys((row.system, row.access) for row in board.rows)
    of = ([row for row in board.rows if (row.system, row.access) == key] for key in systems)
    return [_of_system(board, rows, titles) for rows in of]


def _of_system(board: CorruptionBoard, rows: Sequence[Corrupted], titles: Titles) -> Table:
    return Table(
        f"Corruptions by chance, {titles.of(rows[0].system)}: {titles.board(board.title)}",
        f"{images_of(board.images, board.patients)}, {titles.both(rows[0].system)}, {rows[0].access}.",
        "Corruption",
        BY_SEVERITY,
        [_line(board, row) for row in rows],
        again=[(f"{row.name}: {titles.of(row.system)}", again(row.records)) for row in rows if row.name],
    )


def _line(board: CorruptionBoard, row: Corrupted) -> Line:
    by_severity = [_plain(row.balanced.get(severity)) for severity in SEVERITIES]
    return Line(
        row.name or "mean of all",
        [
            _plain(board.clean[row.system]),
            share(row.kept),
            *by_severity,
            points(row.be),
            points(row.ce),
            points(row.rce),
        ],
        bar=charts.interval_bar(row.kept),
    )


def _plain(value: float | None) -> Cell:
    return share(None if value is None else Figure(value))


def _chosen_facts(board: StudyBoard[Artefacts], row: Artefacts) -> dict[str, Any]:
    return {
        "board": f"acquisition, {board.title}",
        "images": board.images,
        "patients": board.patients,
        "system": row.system,
        "access": row.access,
        "what": row.physics,
        **figure_facts("clean", row.clean),
        **figure_facts("worst", row.worst),
        **figure_facts("chance", row.chance),
        **figure_facts("random_search", row.search),
        "records": cells(row.records),
    }


def _drawn_facts(board: CorruptionBoard, row: Corrupted) -> dict[str, Any]:
    return {
        "board": f"corruptions, {board.title}",
        "images": board.images,
        "patients": board.patients,
        "system": row.system,
        "access": row.access,
        "what": row.name,
        "clean_balanced": board.clean[row.system],
        **figure_facts("kept", row.kept),
        **{f"balanced_{severity}": row.balanced.get(severity) for severity in SEVERITIES},
        "be": row.be,
        "ce": row.ce,
        "rce": row.rce,
        "records": cells(row.records),
    }
