"""The page of attacks: which one leaves least of the same systems with the same budget."""

from __future__ import annotations

from typing import Any

from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking.attacks import AttackBoard, RankedAttack, attack_boards
from robustbench_med.leaderboard.render.attacks import summary
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
    number,
    points,
    share,
)
from robustbench_med.leaderboard.sources.studies import ATTACKS, StudySources

READ = (
    "Every attack was given the same systems, images and budget. The fewer images it leaves right, the better it is. "
    "Its interval counts patients.",
    "A rank is one plus the number of attacks that are significantly better; = means that at least one other is not "
    "significantly different. The test pairs the images, counts patients, and is corrected for all pairs. Attacks that "
    "did not run on all systems have no rank.",
    "The controls, marked so, are no attacks: noise of the same size, and nothing at all. They must rank last.",
)
RANKING = (
    Column("Left %", "Robust accuracy that the attack leaves, mean over the systems."),
    Column("Above best", "Points that it leaves above the attack that leaves least, mean over the systems."),
    Column("Best on", "Systems of which no attack leaves less."),
    Column("Gradients", "Spent on an image, mean."),
    Column("Queries", "Spent on an image, mean."),
    Column("s / image", "Seconds for an image, mean."),
)


def attacks_study(source: StudySources, titles: Titles) -> Study | None:
    """The page; None where there is no comparison."""
    boards = attack_boards(source.records, source.outcomes)
    if not boards:
        return None
    return Study(
        id=ATTACKS,
        title="Attacks compared",
        question="Which attack finds most with the same budget?",
        learned=_learned(boards[0], titles),
        read=READ,
        tables=[table for board in boards for table in (_ranking(board, titles), _by_system(board, titles))],
        measured=measured_with([record for board in boards for each in board.attacks for record in each.records]),
        docs="attacks.md#which-attack-to-run",
        facts=[_facts(board, attack) for board in boards for attack in board.attacks],
    )


def _left(attack: RankedAttack) -> Figure:
    return Figure(attack.left, attack.low, attack.high) if attack.rank else Figure(attack.left)


def _learned(board: AttackBoard, titles: Titles) -> str:
    """The attack that leaves least, those that it ties with, and what controls leave."""
    attacks = [attack for attack in board.attacks if not attack.control]
    ranked = [attack for attack in attacks if attack.rank]
    best = min(ranked or attacks, key=lambda attack: (attack.rank or 0, attack.left))
    tied = sum(attack.rank == 1 for attack in ranked) - 1 if best.rank == 1 else 0
    also = f", not significantly less than {plural(tied, 'other')}" if tied > 0 else ""
    controls = [attack.left for attack in board.attacks if attack.control]
    idle = f" The controls leave {percent(min(controls))} % and more." if controls else ""
    return (
        f"Of {len(attacks)} attacks on {len(board.systems)} systems with one budget, {titles.of(best.name)} leaves "
        f"least: {with_interval(_left(best))} %{also}.{idle}"
    )


def _ranking(board: AttackBoard, titles: Titles) -> Table:
    return Table(
        f"Ranking: {titles.board(_title(board))}",
        f"{_sentence(board)}.",
        "Attack",
        RANKING,
        [_line(attack, titles) for attack in board.attacks],
        again=[(titles.of(attack.name), again(attack.records)) for attack in board.attacks],
    )


def _title(board: AttackBoard) -> str:
    """Data set and threat model."""
    return ", ".join(part.strip() for part in board.title.split("  ") if part.strip())


def _sentence(board: AttackBoard) -> str:
    """Budget, systems, images and patients."""
    return summary(board).removeprefix(board.title).strip().capitalize()


def _line(attack: RankedAttack, titles: Titles) -> Line:
    ran = sum(each is not None for each in attack.results)
    return Line(
        attack.name,
        [
            share(_left(attack)),
            points(attack.gap),
            Cell(f"{attack.best_on} of {ran}"),
            *(number(attack.mean(what)) for what in ("gradients", "queries")),
            number(attack.mean("seconds"), ".2f"),
        ],
        bar=charts.interval_bar(_left(attack)),
        control=attack.control,
        rank=attack.rank,
        tied=attack.tied if attack.rank else 0,
        title=titles.other(attack.name),
    )


def _by_system(board: AttackBoard, titles: Titles) -> Table:
    """What each attack leaves of each system."""
    return Table(
        f"Left of each system, %: {titles.board(_title(board))}",
        f"{_sentence(board)}. The least of each system is in bold.",
        "Attack",
        [_column(name, titles) for name in board.systems],
        [
            Line(
                attack.name,
                [_of_system(board, attack, at) for at in range(len(board.systems))],
                control=attack.control,
                title=titles.other(attack.name),
            )
            for attack in board.attacks
        ],
    )


def _column(system: str, titles: Titles) -> Column:
    """The heading of a system; one that was attacked in two ways has the access behind its name."""
    name, mark, access = system.partition(" (")
    title = titles.other(system) or titles.other(name) + mark + access
    return Column(title, spec=system) if titles.other(system) or titles.other(name) else Column(system)


def _of_system(board: AttackBoard, attack: RankedAttack, at: int) -> Cell:
    result, every = attack.results[at], [each.results[at] for each in board.attacks]
    if result is None:
        return Cell()
    left = [each.left for each in every if each is not None]
    return Cell(percent(result.left), best=result.left <= min(left) + 1e-9 < max(left))


def _facts(board: AttackBoard, attack: RankedAttack) -> dict[str, Any]:
    of_systems = zip(board.systems, attack.results, strict=True)
    return {
        "board": _title(board),
        "images": board.images,
        "patients": board.patients,
        "budget": " ".join(f"{what}={most}" for what, most in board.budget.items()),
        "attack": attack.name,
        "control": attack.control,
        "rank": attack.rank,
        "tied": attack.tied if attack.rank else None,
        "left": attack.left,
        "left_low": attack.low if attack.rank else None,
        "left_high": attack.high if attack.rank else None,
        "above_best": attack.gap,
        "best_on": attack.best_on,
        "gradients": attack.mean("gradients"),
        "queries": attack.mean("queries"),
        "seconds": attack.mean("seconds"),
        "systems": "; ".join(f"{name}: {percent(result.left)}" for name, result in of_systems if result is not None),
        "records": cells(attack.records),
    }
