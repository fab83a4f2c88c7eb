"""The folder as it is read, `rbmed leaderboard build` and `rbmed leaderboard show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.board import board, entry
from helpers.command import invoke
from helpers.leaderboard import example, folder
from helpers.records import ladder_record, outcome

from robustbench_med.errors import BadConfig, DataError
from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.filters import Choice, chosen
from robustbench_med.leaderboard.sources.claims import read_claims
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import dumped, parse


def test_a_corrupt_records_file_names_file_and_line(tmp_path: Path) -> None:
    folder(tmp_path, ladder_record())
    with (tmp_path / "records" / "a.jsonl").open("a") as file:
        file.write('{"torn": \n')
    with pytest.raises(DataError, match=r"records/a\.jsonl: line 2 is not a record"):
        read_sources(tmp_path)


@pytest.mark.parametrize("line", ['{"cell_id": "0"}', "[]", "x", dumped(outcome("0", [True])).replace('"0"', '"0-7"')])
def test_a_corrupt_outcomes_file_names_file_and_line(tmp_path: Path, line: str) -> None:
    folder(tmp_path, ladder_record(), outcomes=f"{dumped(outcome('0', [True]))}\n{line}\n")
    with pytest.raises(DataError, match=r"outcomes/a\.jsonl: line 2 is no outcome"):
        read_sources(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[[claim]]\nname = 1",
        "nonsense = 1",
        "x",
        '[paper.model.x]\ntext = "a"',
        '[paper.defense.x]\ntext = "a"\nurl = "javascript:alert(1)"',
    ],
)
def test_claims_are_checked(tmp_path: Path, text: str) -> None:
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(BadConfig, match=r"claims\.toml"):
        read_claims(tmp_path / "claims.toml")


def test_an_outcome_comes_back_as_it_was() -> None:
    made = outcome("0", [True, False, True], start=7)
    again = parse(dumped(made))
    assert (again.index, again.robust.tolist(), again.correct.tolist()) == ((7, 8, 9), [1, 0, 1], [1, 1, 1])


def test_build_writes_what_check_then_finds(tmp_path: Path) -> None:
    example(tmp_path)
    assert invoke("leaderboard", "build", "--root", tmp_path, "--check").exit_code == 1
    assert not (tmp_path / "README.md").exists()
    assert invoke("leaderboard", "build", "--root", tmp_path).exit_code == 0
    assert invoke("leaderboard", "build", "--root", tmp_path, "--check").exit_code == 0
    (tmp_path / "leaderboard.csv").write_text("edited")
    assert invoke("leaderboard", "build", "--root", tmp_path, "--check").exit_code == 1


def show(root: Path, *options: str) -> tuple[int, str]:
    found = invoke("leaderboard", "show", "--root", root, *options)
    return found.exit_code, found.output


def test_show_filters_sorts_and_picks_columns(tmp_path: Path) -> None:
    example(tmp_path)
    assert "guarded" in show(tmp_path)[1]
    assert "without rank" not in show(tmp_path, "--ranked")[1]
    assert "guarded" not in show(tmp_path, "--norm", "l2")[1]
    assert "guarded" in show(tmp_path, "--eps", "4/255", "--track", "static", "--dataset", "d")[1]
    assert "no row matches" in show(tmp_path, "--eps", "0.01568627450980392", "--norm", "l2")[1]
    rows = show(tmp_path, "--ranked", "--sort", "defense", "--columns", "defense")[1]
    assert rows.index("bare") < rows.index("guarded") < rows.index("held")
    boards = json.loads(show(tmp_path, "--format", "json", "--client", "b")[1])["boards"]
    assert boards[0]["sections"][0]["entries"][0]["worst"]["value"] == pytest.approx(29 / 64)
    assert boards[0]["sections"][0]["entries"][0]["rank"] is None


@pytest.mark.parametrize(
    ("option", "value", "valid"),
    [("--dataset", "nope", "d"), ("--client", "nowhere", "a, b"), ("--eps", "8/255", "4/255")],
)
def test_a_value_that_no_row_has_is_told_before_images_are_read(
    tmp_path: Path, option: str, value: str, valid: str
) -> None:
    example(tmp_path)
    (tmp_path / "outcomes" / "damaged.jsonl").write_text("{")
    code, told = show(tmp_path, option, value)
    assert (code, told.splitlines()[-1]) == (2, f"error: {option} {value}: no row has it; valid: {valid}")


def test_the_log_of_an_unknown_defense_is_an_error(tmp_path: Path) -> None:
    example(tmp_path)
    found = invoke("leaderboard", "log", "--root", tmp_path, "--defense", "gaurded")
    assert found.exit_code == 2
    assert found.output.splitlines()[-1].startswith(
        "error: --defense gaurded: no record is of it; valid: bare, guarded"
    )


def test_ranked_leaves_out_rows_of_an_earlier_revision() -> None:
    old = entry("old", earlier=True, ranked=False, rank=None, why_not="an earlier revision")
    lost = entry("lost", ranked=False, rank=None, why_not="no ladder")
    mixed, only_old = board(entry("new"), old, unranked=(lost,)), board(old)
    (kept,) = chosen([mixed, only_old], Choice(ranked=True))
    assert [each.defense for each in kept.entries] == ["new"]
    assert {each.defense for each in chosen([mixed], Choice())[0].entries} == {"new", "old", "lost"}


@pytest.mark.parametrize(
    "options",
    [
        ("--client", "z"),
        ("--dataset", "z"),
        ("--norm", "z"),
        ("--eps", "z"),
        ("--track", "z"),
        ("--columns", "z"),
        ("--sort", "z"),
        ("--root", "z"),
    ],
)
def test_show_names_what_is_valid(tmp_path: Path, options: tuple[str, str]) -> None:
    code, text = show(example(tmp_path), *options)
    assert code == 2
    assert len(text.splitlines()) == 1


def test_bounds_are_the_same_on_every_processor() -> None:
    # Those of one row on two of them.
    one, two = ((0.5555118059962423, 0.7168536680384023), (0.5555118059962422, 0.7168536680384022))
    assert Figure(0.646875, *one) == Figure(0.646875, *two)
    assert Figure(0.646875, *one).interval == pytest.approx(one, abs=1e-11)
