"""A comparison of attacks as text: the cells of its tables, and Markdown."""

from __future__ import annotations

from robustbench_med.files.escaping import escape_markdown
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.ranking.attacks import AttackBoard, RankedAttack
from robustbench_med.leaderboard.ranking.ranks import rank_text
from robustbench_med.records.summary import with_bounds

#: Headings of the ranking.
COLUMNS = ("#", "attack", "left % [95%]", "above best", "best on", "gradients", "queries", "s/image")


def cells(attack: RankedAttack) -> tuple[str, ...]:
    """One attack as a row: percent, points, and means over the systems for each image."""
    ran = sum(each is not None for each in attack.results)
    return (
        rank_text(attack.rank, attack.tied),
        attack.name + (" (control)" if attack.control else ""),
        with_bounds(attack.left, (attack.low, attack.high) if attack.rank else None),
        percent(attack.gap),
        f"{attack.best_on} of {ran}",
        f"{attack.mean('gradients'):.0f}",
        f"{attack.mean('queries'):.0f}",
        f"{attack.mean('seconds'):.2f}",
    )


def summary(board: AttackBoard) -> str:
    """What was compared, in one line."""
    budget = ", ".join(f"{most} {what}" for what, most in board.budget.items())
    of = f" of {plural(board.patients, 'patient')}" if board.patients else ""
    return f"{board.title}   at most {budget}; {len(board.systems)} systems, {plural(board.images, 'image')}{of}"


def by_system(board: AttackBoard) -> list[tuple[str, ...]]:
    """For each attack what it leaves of each system, in percent."""
    return [
        (attack.name, *("" if each is None else percent(each.left) for each in attack.results))
        for attack in board.attacks
    ]


def to_markdown(board: AttackBoard) -> str:
    """Both tables."""
    names = [f"`{name}`" for name in board.systems]
    ranking = _table(COLUMNS, [cells(attack) for attack in board.attacks])
    return f"{escape_markdown(summary(board))}\n\n{ranking}{_table(('left % of', *names), by_system(board))}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"
