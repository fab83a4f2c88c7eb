"""The overview: who wins on what, images of patients first, and nothing but what the boards say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import board as boards
from helpers.board import build, share
from helpers.paths import ROOT

from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.ranking.boards import ordered
from robustbench_med.leaderboard.render.page import curves, overview, scatter
from robustbench_med.leaderboard.render.page.certificates import certificates
from robustbench_med.leaderboard.render.page.row_names import People
from robustbench_med.leaderboard.render.page.saturation import saturation
from robustbench_med.leaderboard.render.page.site import pages
from robustbench_med.leaderboard.sources.claims import read_claims

PEOPLE = People()
#: Bytes of the site without compression; a server sends less than half.
BUDGET = 3_000_000


def named(board: Board, dataset: str, synthetic: bool) -> Board:
    return replace(board, id=f"{dataset}-{board.eps_text.replace('/', '-')}", dataset=dataset, synthetic=synthetic)


def section(*entries: Entry, track: str = "static", ladder: str = "ladder:quick") -> Section:
    return Section(f"s-{track}-{ladder}", track, ladder, 64, boards.CLIENTS, entries)  # type: ignore[arg-type]


def several() -> list[Board]:
    """A synthetic data set with two threats, and one of patients with one of them."""
    four, eight = boards.board(boards.entry("a")), boards.board(boards.entry("b"), eps=8)
    return [named(four, "sim", True), named(eight, "sim", True), named(four, "zzz", False)]


def test_images_of_patients_come_first_and_the_usual_threat_is_shown() -> None:
    panels = overview.panels(ordered(several()), PEOPLE)
    assert [panel.threat for panel in panels] == ["Linf 4/255", "Linf 8/255"]
    assert [card.board.dataset for card in panels[0].cards] == ["zzz", "sim"]
    assert [each.name for each in overview.data_sets(ordered(several()), PEOPLE)] == ["zzz", "sim"]
    assert overview.usual(several()[1:2]) == "Linf 8/255", "where the usual one was not measured"
    assert overview.panels([], PEOPLE) == []


def test_more_images_come_first_and_then_known_patients() -> None:
    def of(name: str, images: int, patients: int | None) -> Board:
        rows = replace(section(replace(boards.entry(name), patients=patients)), images=images)
        return replace(named(boards.board(), name, False), sections=(rows,))

    every = [of("few", 10, None), of("alike", 900, None), of("known", 900, 9), of("most", 1000, None)]
    assert [board.dataset for board in ordered(every)] == ["most", "known", "alike", "few"]


def test_a_data_set_is_called_as_its_authors_do(tmp_path: Path) -> None:
    file = tmp_path / "claims.toml"
    file.write_text('[dataset.abc]\nname = "BUSI"\ntext = "A 2020"\nurl = "https://example.org"\n')
    data = read_claims(file).datasets["abc"]
    board = replace(boards.board(), options="folds=5", partition="iid:clients=3", synthetic=False, data=data)
    assert PEOPLE.board(board) == "BUSI, 5 folds, Linf 4/255"
    other = replace(board, partition="iid:clients=4")
    both = overview.People.among([board, other], {})
    assert [both.data(each) for each in (board, other)] == [
        "BUSI, 5 folds, 3 iid clients",
        "BUSI, 5 folds, 4 iid clients",
    ]
    assert board.title.startswith("BUSI, brainsim:folds=5 iid:clients=3")
    page = dict(pages([board]))[f"boards/{board.id}.html"]()
    assert 'Published: <a href="https://example.org"' in page
    assert "read with folds=5. Its clients are made by iid:clients=3, and are no hospitals." in page


def test_a_table_says_how_many_trainings_its_rows_are_of_and_what_a_ladder_is() -> None:
    one, three = (replace(boards.entry(f"seeds{len(seeds)}"), train_seeds=seeds) for seeds in ((0,), (0, 1, 2)))
    assert section(one).trainings == "one training of each row"
    assert section(replace(one, folds=5)).trainings == "one training of each row and fold"
    assert section(three).trainings == "3 trainings of each row"
    assert section(one, three).trainings == "1 to 3 trainings of a row"
    assert section(replace(one, train_seeds=())).trainings == ""
    page = dict(pages([replace(boards.board(), sections=(section(three, ladder="ladder:quick (revision 2)"),))]))
    text = page[f"boards/{boards.board().id}.html"]()
    assert "; 3 trainings of each row." in text
    assert "The ladder is every attacker, with few steps" in text


def test_what_one_answer_to_every_image_gives_stands_beside_the_best_rows() -> None:
    rows = replace(section(boards.entry("good", 0.9)), one_answer=0.58)
    board = replace(boards.board(), synthetic=False, sections=(rows,))
    page = dict(pages([board]))["index.html"]()
    assert "One answer to every image, the most frequent class<td class=n><b>58.0</b>" in page
    assert "would be right for 58.0 %." in page
    weak = replace(board, sections=(replace(rows, one_answer=0.88),))
    assert "88.0 %, which the best does not clearly exceed." in dict(pages([weak]))["index.html"]()


def test_ranked_rows_come_before_those_of_an_earlier_revision() -> None:
    old = [replace(boards.entry(name, 0.9), ranked=False, earlier=True) for name in ("one", "two", "three")]
    plain = replace(boards.board(), id="plain", dataset="d", synthetic=False, sections=(section(*old),))
    folds = replace(plain, id="folds", options="folds=5", sections=(section(boards.entry("now", 0.1)),))
    assert [each.name for each in overview.data_sets(ordered([plain, folds]), PEOPLE)] == ["d, 5 folds", "d"]


def test_the_best_row_of_each_kind_is_named_and_the_highest_comes_first() -> None:
    strong = section(boards.entry("full", 0.2), ladder="ladder:full")
    weak, other = section(boards.entry("quick", 0.9)), section(boards.entry("noisy", 0.4), track="randomized test-time")
    board = replace(boards.board(), sections=(strong, weak, other))
    assert [winner.entry.defense for winner in overview.winners(board)] == ["noisy", "full"]
    best = overview.best(board)
    assert best is not None
    assert best.defense == "noisy"
    assert overview.best(replace(board, sections=())) is None


def test_every_row_is_a_dot_with_its_interval() -> None:
    dots = [
        scatter.Dot(boards.entry("a", 0.5), "<b>first</b>", labelled=True),
        scatter.Dot(boards.entry("b", 0.5, clean=None), "without"),
        scatter.Dot(replace(boards.entry("c", track="static"), worst=share(1.0, 0.0)), "third"),
    ]
    chart = scatter.scatter(dots, "a & b")
    assert chart.count("class=whisker") == 2
    assert "a &amp; b" in chart
    assert "&lt;b&gt;first&lt;/b&gt;" in chart
    assert "first: clean 95.0 %, worst case 50.0 % (40 to 60)" in chart.replace("&lt;b&gt;", "").replace(
        "&lt;/b&gt;", ""
    )
    assert "without" not in chart
    kinds = ["Classifier alone", "Defense at test time, randomized"]
    assert re.findall(r"</svg> ([A-Za-z ,]+)</li>", chart) == [*kinds, "nothing lost"]
    assert scatter.scatter([], "nothing") == ""


@pytest.mark.parametrize("count", [1, 4, 40])
def test_names_in_a_chart_stay_apart_and_inside(count: int) -> None:
    dots = [scatter.Dot(boards.entry(str(at), 0.5), "a long name " * 9, labelled=True) for at in range(count)]
    chart = scatter.scatter(dots, "t")
    places = [float(y) for y in re.findall(r"class=name x=[\d.]+ y=(-?[\d.]+)", chart)]
    assert len(places) == count
    if count <= 4:
        assert all(abs(one - other) >= 12 for at, one in enumerate(places) for other in places[:at])
        assert all(0 <= y <= scatter.HIGH for y in places)


def test_names_in_a_chart_cover_no_named_dot() -> None:
    """Two dots at one height, near each other: the name of the left one would run over the right one."""
    left, right = (boards.entry("a", 0.5, track="static", clean=share(at)) for at in (0.60, 0.66))
    chart = scatter.scatter([scatter.Dot(left, "a long name", True), scatter.Dot(right, "another", True)], "t")
    found = re.findall(r"class=name x=([\d.]+) y=([\d.]+) text-anchor=(\w+)", chart)
    dots = [(float(x), float(y)) for x, y in re.findall(r"circle cx=([\d.]+) cy=([\d.]+)><title", chart)]
    assert len(found) == len(dots) == 2
    for text, (x, y, anchor) in zip(("a long name", "another"), found, strict=True):
        wide = len(text) * scatter.LETTER
        low = float(x) - wide * (anchor == "end")
        assert not any(low < at < low + wide and abs(float(y) - height) < 6 for at, height in dots)


def test_names_in_a_chart_cover_no_other_dot_if_that_can_be() -> None:
    low, high = (boards.entry(name, 0.5, track="static", clean=share(at)) for name, at in (("a", 0.60), ("b", 0.62)))
    chart = scatter.scatter([scatter.Dot(low, "a long name", True), scatter.Dot(high, "unnamed")], "t")
    ((x, y, anchor),) = re.findall(r"class=name x=([\d.]+) y=([\d.]+) text-anchor=(\w+)", chart)
    dots = [(float(at), float(height)) for at, height in re.findall(r"circle cx=([\d.]+) cy=([\d.]+)><title", chart)]
    left = float(x) - 11 * scatter.LETTER * (anchor == "end")
    assert not any(left < at < left + 11 * scatter.LETTER and abs(float(y) - height) < 6 for at, height in dots)


@pytest.mark.parametrize(
    ("room", "shown"),
    [(400, "Adversarial training, FedAvg + PGD"), (200, "Adversarial training\u2026"), (70, "Adversari\u2026")],
)
def test_a_name_in_a_chart_loses_parts_before_letters(room: float, shown: str) -> None:
    assert scatter._shortened("Adversarial training, FedAvg + PGD", room) == shown


def test_the_first_sentence_says_who_wins_on_images_of_patients() -> None:
    rows = (
        section(boards.entry("undefended", 0.1), track="static"),
        section(boards.entry("filter", 0.3), track="randomized test-time"),
    )
    simulated, real = boards.board(boards.entry("other")), replace(boards.board(), sections=rows, synthetic=False)
    cards = [overview.card(each, PEOPLE) for each in (simulated, real)]
    answer = overview.on_patients(overview.Panel("Linf 4/255", "a", cards), PEOPLE)
    assert answer is not None
    assert (answer.best.entry.defense, answer.card.board.synthetic) == ("filter", False)
    assert answer.plain is None, "no plugin says that it is a classifier without a defense"
    assert overview.on_patients(overview.Panel("Linf 4/255", "a", cards[:1]), PEOPLE) is None


def test_the_published_answer_has_the_figures_of_its_board() -> None:
    page = (ROOT / "leaderboard/index.html").read_text(encoding="utf-8")
    found = re.search(r'class="?answer"?>(.*?)</p>', page, re.DOTALL)
    assert found is not None
    facts = json.loads((ROOT / "leaderboard/leaderboard.json").read_text(encoding="utf-8"))
    board = next(
        each for each in facts["boards"] if not each["synthetic"] and each["eps_text"] == "4/255" and ranked(each)
    )
    bare = [row for row in ranked(board, "undefended") if "adversarial" not in row["strategy_full"]]
    best, plain = (max(row["worst"]["value"] for row in rows) for rows in (ranked(board), bare))
    assert re.findall(r"<b>([\d.]+) %</b>", found[1]) == [f"{100 * best:.1f}", f"{100 * plain:.1f}"]


def ranked(board: dict[str, Any], defense: str = "") -> list[dict[str, Any]]:
    rows = [row for section in board["sections"] for row in section["entries"] if row["ranked"]]
    return [row for row in rows if not defense or row["defense"] == defense]


def test_the_same_system_is_followed_over_eps() -> None:
    four, eight = boards.board(boards.entry("a")), boards.board(boards.entry("a", 0.2), eps=8)
    chart = curves.over_eps(four, [four, eight], PEOPLE)
    assert "a, 8/255 20.0 % (10 to 30)" in chart
    assert "a, 0: clean 95.0 %" in chart
    assert curves.over_eps(four, [four], PEOPLE) == ""
    other = boards.board(boards.entry("b"), eps=8)
    assert curves.over_eps(four, [four, other], PEOPLE) == ""


def test_the_saturation_curve_has_every_round() -> None:
    rungs = [
        {
            "rung": "one apgd",
            "access": "oblivious",
            "attacked": 64,
            "withstanding": 0.75,
            "broken": 9,
            "gradients_mean": 20.0,
        }
        | {"queries_mean": 0.0, "seconds": 1.0, "reason": ""},
        {
            "rung": "two apgd",
            "access": "full",
            "attacked": 32,
            "withstanding": 0.25,
            "broken": 9,
            "gradients_mean": 40.0,
        }
        | {"queries_mean": 0.0, "seconds": 1.0, "reason": ""}
        | {"rounds": [{"gradients": 10.0, "withstanding": 0.5}, {"gradients": 20.0, "withstanding": 0.25}]},
        {"rung": "left out", "access": "gate", "reason": "no detector"},
    ]
    made = boards.record(rungs=rungs, metrics={"clean_accuracy": 1.0})
    chart = saturation([made])
    assert chart is not None
    told = re.findall(r"<title>(.*?)</title>", chart)
    assert told == [
        "no attack, 0: 100.0 %",
        "one apgd, 20: 75.0 %",
        "two apgd, 30: 50.0 %",
        "two apgd, 40: 25.0 %",
    ]
    assert saturation([boards.record()]) is None


def test_certified_and_attacked_accuracy_are_shown_together() -> None:
    curve = [{"radius": at, "accuracy": 0.9 - at, "low": 0.8 - at, "high": 0.95 - at} for at in (0.0, 0.4, 0.8)]
    facts = {"sigma": 0.25, "n0": 10, "n": 1000, "alpha": 0.001, "largest": 0.8, "median": 0.3, "abstained": 4}
    made = boards.record(certified=facts | {"chance": 0.1, "curve": curve})
    two = replace(boards.board(boards.entry("a", 0.6)), norm="l2", eps=0.3, eps_text="0.3")
    entry = boards.entry("a", records=(boards.record(), made))
    found = certificates(two, [(two, entry), (boards.board(entry), entry)], entry.records)
    assert found is not None
    rows = [(at, one.value, other.value if other else None) for at, one, other in found.rows]
    assert rows == [("0", 0.9, None), ("0.3", 0.5, 0.5), ("0.4", 0.5, None), ("0.8", pytest.approx(0.1), None)]
    assert "0.4: certified 50.0 % (40 to 55)" in found.chart
    assert "0.3: attacked 50.0 % (40 to 60)" in found.chart
    assert "1,000 samples" in found.told
    assert certificates(two, [(two, entry)], [boards.record()]) is None


def test_the_search_index_is_data_and_nothing_else(tmp_path: Path) -> None:
    bad = boards.entry('"];alert(1)//</script>', id="bad", strategy="\u2028")
    build([boards.board(bad)], tmp_path)
    text = (tmp_path / "assets" / "search.js").read_text(encoding="utf-8")
    assert text.isascii()
    facts = json.loads(text.removeprefix("searchIndex = ").rstrip().removesuffix(";"))
    assert facts["rows"][0][1:3] == ["bad", '"];alert(1)//</script>']
    assert facts["boards"] == ["brainsim, Linf 4/255"]


def test_a_board_says_once_what_others_published(tmp_path: Path) -> None:
    build(boards.full(), tmp_path)
    for name in ("index.html", "entries/brainsim-linf-4-255.medfedpure.html"):
        assert "97.67" not in (tmp_path / name).read_text(encoding="utf-8")


def test_the_committed_site_is_small() -> None:
    root = ROOT / "leaderboard"
    parts = [root / "index.html", root / "about.html"]
    parts += [
        path for name in ("assets", "boards", "entries", "gallery", "studies") for path in (root / name).rglob("*")
    ]
    assert sum(path.stat().st_size for path in parts if path.is_file()) <= BUDGET


def test_the_committed_overview_names_the_winners() -> None:
    text = (ROOT / "leaderboard" / "index.html").read_text(encoding="utf-8")
    first = text[text.index("class=panel") :]
    first = first[: first.index("</section>")]
    assert "Linf 4/255" in first
    assert "real patients" in first
    assert "Defense at test time, randomized, 64 images" in text, "other than the 600 images of the card"
    assert not re.search(r">undefended</a>", text), "a winner that was trained adversarially has a name that says so"
