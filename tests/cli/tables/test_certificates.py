"""The terminal's table of certificates."""

from __future__ import annotations

import io

import pytest
from helpers.studies import certified, in_folds
from rich.console import Console

from robustbench_med.cli.tables import certificates
from robustbench_med.records.record import Record


def printed(records: list[Record], width: int = 160) -> list[list[str]]:
    """The words of the heading and of each line below it."""
    out = io.StringIO()
    Console(width=width, file=out).print(certificates.show(records))
    lines = [line.split() for line in out.getvalue().splitlines()]
    rule = next(at for at, line in enumerate(lines) if line and set(line[0]) == {"\N{BOX DRAWINGS LIGHT HORIZONTAL}"})
    return lines[rule - 1 : rule] + lines[rule + 1 :]


def test_folds_are_pooled_and_follow_the_row_of_all() -> None:
    head, whole, *folds = printed(in_folds(0.75, 0.5, 0.25, of=3))
    assert " ".join(head) == "defense attack fold eps clean certified [95%] attacked [95%] gap abstains n"
    # As on the page: means of the folds, and the interval of independent ones.
    figures = "all 3 0.5 100.0 50.0 [44, 56] 50.0 [47, 50] 0.0 1.6 192/144"
    assert " ".join(whole) == f"smoothed:sigma=0.25 momentum:steps=15 {figures}"
    assert [line[:3] for line in folds] == [[str(fold), "0.5", "100.0"] for fold in range(3)]
    assert [line[-1] for line in folds] == ["64/48"] * 3


def test_a_row_of_some_folds_says_how_many() -> None:
    _, whole, *folds = printed(in_folds(0.75, 0.5, of=5))
    assert whole[2:5] == ["2", "of", "5"]
    assert len(folds) == 2


def test_without_folds_each_record_is_a_row_and_there_is_no_such_column() -> None:
    head, *rows = printed([certified("a", 0.5, 0.75), certified("b", 0.25, 0.9)])
    assert "fold" not in head
    assert [row[2] for row in rows] == ["0.5", "0.25"], "in the order of the run"


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_keeps_names_and_what_is_certified(width: int) -> None:
    head, whole, *rest = printed(in_folds(0.75, 0.5, 0.25, of=3), width)
    assert {"fold", "eps", "certified"} <= set(head)
    assert whole[0] == "smoothed:sigma=0.25"
    assert f"left out in {width} columns: " in " ".join(word for line in rest for word in line)
