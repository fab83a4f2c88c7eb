"""Boards as LaTeX tables for a paper (package booktabs): ``leaderboard/leaderboard.tex``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustbench_med.files.escaping import escape_tex
from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.render.columns import BY_NAME
from robustbench_med.records.summary import images_of

SHOWN = (
    *("rank", "defense", "strategy", "clean", "robust", "answered", "claim", "drop", "sensitivity", "specificity"),
    *("hidden", "seeds", "flags"),
)


def to_tex(boards: Sequence[Board]) -> str:
    """One table for each section, to be taken with input; rows without rank are left out."""
    lines = [r"% \usepackage{booktabs,textcomp}. Made by rbmed leaderboard build; figures in percent."]
    for board in boards:
        for section in board.sections:
            lines += ["", *_table(board, section)]
    return "\n".join(lines) + "\n"


def _table(board: Board, section: Section) -> Iterator[str]:
    columns = [BY_NAME[name] for name in SHOWN]
    shown = [column for column in columns if any(column.text(entry) for entry in section.entries)]
    caption = f"{board.title}; {section.track}, {section.ladder}, {images_of(section.images, section.patients)}"
    caption += "" if section.ranked else "; measured with an earlier revision, not ranked"
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{escape_tex(caption)}. Worst case over the ladder, image by image.}}"
    yield rf"\label{{tab:{section.id}}}"
    yield rf"\begin{{tabular}}{{{''.join('r' if column.right else 'l' for column in shown)}}}"
    yield r"\toprule"
    yield " & ".join(escape_tex(column.title) for column in shown) + r" \\"
    yield r"\midrule"
    for entry in section.entries:
        yield " & ".join(escape_tex(column.text(entry)) for column in shown) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"
