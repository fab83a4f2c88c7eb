"""Tables in narrow terminals: columns are left out and named, names and figures stay whole."""

from __future__ import annotations

import io

import pytest
from helpers import board
from rich.console import Console
from rich.text import Text

from robustbench_med.cli import console
from robustbench_med.cli.narrow_tables import FittingTable
from robustbench_med.cli.tables import clients, records

LONG = "medfedpure:score=reconstruction"


def shown(table: object, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue()


def small() -> FittingTable:
    made = console.table("name", "what", "a", "b", right=("a", "b"), keep=("b",), first_to_go=("a",))
    console.row(made, "a-name-of-twenty-five-let", "some words to say what it is about", "1234567", "7654321")
    return made


@pytest.mark.parametrize("width", [36, 44, 60, 80, 120])
def test_names_and_figures_are_whole_at_every_width(width: int) -> None:
    text = shown(small(), width)
    assert "a-name-of-twenty-five-let" in text
    assert "7654321" in text
    assert max(map(len, text.splitlines())) <= width
    told = "left out" in text
    assert told == (not ("1234567 " in text and "some words" in text))


@pytest.mark.parametrize("width", range(40, 70))
def test_headings_are_whole_whichever_columns_are_left_out(width: int) -> None:
    figures = ("clean", "worst", "spread", "robust", "share", "kB")
    made = console.table("defense", *figures, right=figures, first_to_go=("kB", "spread"))
    made.padding = (0, 1, 0, 0)
    console.row(made, LONG, *["12.2"] * 6)
    head, _, _, *told = shown(made, width).splitlines()
    left_out = " ".join(map(str.strip, told)).partition("columns: ")[2].split(", ")
    assert head.split() == ["defense", *(name for name in figures if name not in left_out)]


def test_what_was_left_out_is_said_and_the_table_stays_as_it_was() -> None:
    made = small()
    assert "left out in 36 columns: what, a" in shown(made, 36)
    assert "left out" not in shown(made, 120)
    assert "some words to say what it is about" in shown(made, 120)


def test_what_cannot_fit_is_folded_and_loses_no_letter() -> None:
    lines = shown(small(), 20).splitlines()
    assert "a-name-of-twenty-five-let" in "".join(line[:11].strip() for line in lines)


@pytest.mark.parametrize("width", range(46, 64))
@pytest.mark.parametrize("name", ["medfedpure:preset=few,ablation=random-detector", Text(f"{LONG},references=3")])
def test_a_name_that_does_not_fit_goes_on_after_a_comma(width: int, name: str | Text) -> None:
    made = console.table("defense", "clean", "robust", right=("clean", "robust"), keep=("robust",))
    made.padding = (0, 1, 0, 0)
    made.add_row(name, "99.1", "24.0 [10,47]")
    made.add_row("undefended", "97.9", "12.2 [7,20]")
    text = shown(made, width)
    words = [word for word in text.partition("left out")[0].split() if ":" in word or "=" in word]
    parts = str(name).split(",")
    assert words in ([str(name)], [f"{parts[0]},", *parts[1:]]), text
    assert "24.0 [10,47]" in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80])
def test_rows_of_records_keep_their_names(width: int) -> None:
    rows = [
        board.record(
            f"abc{name}",
            defense={"name": "medfedpure", "params_passed": {"score": name}, "weights": {"digest": name, "seed": 0}},
            attack={"name": "apgd", "params_passed": {"steps": 20}},
            metrics={"clean_accuracy": 0.99, "robust_accuracy": 0.5},
            intervals={"robust_accuracy": [0.4, 0.6]},
        )
        for name in ("reconstruction", "divergence")
    ]
    text = shown(records.show(rows), width)
    assert LONG in text
    assert "apgd:steps=20" in text
    assert "50.0 [40,60]" in text
    assert clients.show(rows) is None


def test_a_long_name_is_folded_after_commas_before_columns_are_left_out() -> None:
    name = "undefended:strategy=[fedavg:rounds=80,batch_size=16,shift=0.06,jitter=0.1,autocast=true]"
    made = console.table("defense", "dataset", "images", right=("images",))
    console.row(made, name, "imagefolder:folds=5,fold=3", "156")
    text = shown(made, 80)
    assert "imagefolder:folds=5,fold=3" in text
    assert "156" in text
    assert "left out" not in text
    assert [part in text for part in ("undefended:strategy=[fedavg:rounds=80,", "autocast=true]")] == [True, True]


def test_names_go_on_after_a_colon_where_the_columns_that_stay_do_not_fit() -> None:
    made = console.table("defense", "attack", "robust", right=("robust",), keep=("attack", "robust"))
    made.padding = (0, 1, 0, 0)
    console.row(made, "shielded:purifier=[bit-depth:gradient=straight]", "art:ProjectedGradientDescent,steps=5", "93.8")
    text = shown(made, 60)
    assert "left out" not in text
    for word in ("shielded:", "bit-depth:", "gradient=", "straight]", "ProjectedGradientDescent,", "93.8"):
        assert word in text
    # Alone, the attack needs no more lines than commas give it.
    made = console.table("defense", "attack", keep=("attack",))
    console.row(made, "undefended", "art:ProjectedGradientDescent,steps=5")
    assert "art:ProjectedGradientDescent," in shown(made, 60)


def test_what_tells_rows_of_one_defense_apart_stays() -> None:
    columns = ["defense", "attack", "sees", "robust"]
    rows = [["a", "pgd", "full", "1"], ["a", "apgd", "full", "2"], ["b", "apgd", "oblivious", "3"]]
    assert console.telling_apart(columns, rows, ("robust",)) == ["attack"]
    rows.append(["b", "apgd", "full", "3"])
    assert console.telling_apart(columns, rows, ("robust",)) == ["attack", "sees"]
    assert console.telling_apart(columns, [], ("robust",)) == []
