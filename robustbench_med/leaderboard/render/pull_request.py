"""The text that goes with a submission when it is submitted."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_med.files.escaping import escape_markdown
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.render.columns import COLUMNS
from robustbench_med.leaderboard.sources.submission import Review, Submission

SHOWN = ("defense", "strategy", "model", "ladder", "images", "clean", "robust", "claim", "drop", "seeds", "flags")


def text(submission: Submission, review: Review, boards: Sequence[Board]) -> str:
    """A pull request's text; ``boards`` are those that the submission's records make by themselves."""
    path = f"leaderboard/submissions/{submission.name}.json"
    lines = [
        f"# Leaderboard: {escape_markdown(submission.defense)}",
        "",
        f"Adds `{path}`. Paper: <{submission.paper.url}>",
        "",
    ]
    if submission.notes:
        lines += [escape_markdown(submission.notes), ""]
    columns = [column for column in COLUMNS if column.name in SHOWN]
    for board in boards:
        entries = list(board.entries)
        shown = [column for column in columns if any(column.text(entry) for entry in entries)]
        lines += [f"## {escape_markdown(board.title)}", ""]
        lines += [f"| {' | '.join(column.title for column in shown)} |", f"|{' --- |' * len(shown)}"]
        lines += [f"| {' | '.join(escape_markdown(column.text(entry)) for column in shown)} |" for entry in entries]
        lines += [""]
    lines += ["## What the leaderboard will show", ""]
    lines += [f"- {escape_markdown(note)}" for note in review.notes] or ["- nothing besides the figures"]
    lines += [
        "",
        "## To check it",
        "",
        "```",
        f"rbmed leaderboard check {path}",
        f"rbmed leaderboard verify {path} --sample 2",
        "rbmed leaderboard build",
        "```",
        "",
    ]
    return "\n".join(lines)
