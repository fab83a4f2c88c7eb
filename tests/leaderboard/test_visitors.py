"""What a visitor has to be told: which boards weigh most, and how hard a row was attacked."""

from __future__ import annotations

from dataclasses import replace

from helpers import board as boards

from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import RungFigure
from robustbench_med.leaderboard.ranking.boards import ordered
from robustbench_med.leaderboard.render.page.budget import spent
from robustbench_med.leaderboard.render.page.site import pages


def test_whole_cross_validations_come_first_then_more_images_and_few_patients_are_marked() -> None:
    def of(dataset: str, images: int, patients: int | None, folds: int = 0, measured: int = 0) -> Board:
        entry = boards.entry(images=images, patients=patients, folds=folds, measured_folds=measured)
        made = boards.board(entry)
        return replace(
            made, id=dataset, dataset=dataset, synthetic=False, sections=(replace(made.sections[0], images=images),)
        )

    few, many = of("few", 64, 14), of("many", 780, None, 5, 5)
    part = of("part", 900, 100, 5, 4)
    found = ordered([few, of("whole", 100, 30, 3, 3), part, many, of("split", 600, None)])
    assert [board.dataset for board in found] == ["many", "whole", "part", "split", "few"]
    assert [board.few for board in found] == [False, False, False, False, True]
    assert few.sections[0].notes[0] == "Only 14 patients: a first look, others may give other figures."
    texts = {name: made() for name, made in pages([few, many])}
    assert [texts[f"boards/{board.id}.html"].count(">few patients<") for board in (few, many)] == [1, 0]
    assert texts["index.html"].count(">few patients<") == 2, "on the card and in the table of all boards"


def test_a_row_that_draws_noise_says_what_attackers_might_spend() -> None:
    told = spent(boards.entry())
    assert "averages over at most 4 noise draws (EOT)" in told
    assert "at most 100 gradients on an image, without gradients no queries." in told
    assert told.endswith("the worst case is an upper bound: a larger budget may lower it further.")
    assert spent(boards.entry(track="static")) == ""
    text = dict(pages([boards.board(boards.entry())]))
    assert told in text["entries/brainsim-linf-4-255.medfedpure.html"]()
    rung = {"access": "full", "name": "apgd", "params_passed": {}, "eot": 20}
    attack = {"name": "ladder", "params_passed": {}, "rungs": [rung]}
    query = RungFigure("query square", "query", 0.5, queries=2000.0)
    enough = spent(boards.entry(records=(boards.record(attack=attack),), rungs=(query,)))
    assert "20 noise draws" in enough
    assert enough.endswith("without gradients 2,000 queries.")
