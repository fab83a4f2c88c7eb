"""``rbmed leaderboard attacks``: which attack leaves least robust accuracy, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli import console
from robustbench_med.cli.commands.leaderboard import ReadRoot, leaderboard
from robustbench_med.cli.console import out, plain

if TYPE_CHECKING:
    from robustbench_med.leaderboard.ranking.attacks import AttackBoard


@leaderboard.command()
def attacks(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Folders of results that are compared with the published ones.")
    ] = None,
    root: ReadRoot = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Rank attacks by what they leave of the same defenses with the same budget."""
    from robustbench_med.leaderboard.render.attacks import COLUMNS, by_system, cells, summary, to_markdown
    from robustbench_med.leaderboard.sources.attacks import read_attack_boards
    from robustbench_med.leaderboard.sources.folder import default_folder

    boards = read_attack_boards(root or default_folder(), results or [])
    if not boards:
        plain("no comparison: it takes two attacks on two systems, with the same --max-gradients or --max-queries")
    for board in boards:
        if markdown:
            print(to_markdown(board), end="")
            continue
        table = console.table(*COLUMNS, title=summary(board), right=COLUMNS[2:])
        for attack in board.attacks:
            console.row(table, *cells(attack), style="dim" if attack.rank is None else "")
        out.print(table)
        _by_system(board, by_system(board))


def _by_system(board: AttackBoard, rows: list[tuple[str, ...]]) -> None:
    """What each attack leaves of each system, the systems numbered below the table."""
    numbers = tuple(str(number) for number in range(1, len(board.systems) + 1))
    table = console.table("left of system", *numbers, right=numbers)
    for row in rows:
        console.row(table, *row)
    out.print(table)
    for number, name in zip(numbers, board.systems, strict=True):
        plain(f"  {number}  {name}")
    plain("")
