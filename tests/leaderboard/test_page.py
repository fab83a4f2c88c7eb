"""The page of the leaderboard as text; tests/leaderboard/test_page_browser.py looks at it in a browser."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers import board as boards
from helpers.board import build, gallery
from helpers.paths import ROOT
from helpers.studies import studies_of

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.entry import Entry, Figure, RungFigure
from robustbench_med.leaderboard.ranking.answers import Answers
from robustbench_med.leaderboard.render.page import charts, lines
from robustbench_med.leaderboard.render.page.columns import TableCell, filled
from robustbench_med.leaderboard.render.page.details import Page
from robustbench_med.leaderboard.render.page.figures import DASH, MINUS, count, interval, percent, web
from robustbench_med.records.rerun import command

SITE = {"index.html", "about.html", "assets/page.css", "assets/page.js", "assets/search.js"}
#: What lies beside the pages in the leaderboard's folder, and documents of the repository.
BESIDE = {"leaderboard.csv", "leaderboard.json", "leaderboard.tex", "README.md"}


class Links(HTMLParser):
    """Names in a page, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def page_of(entry: Entry, *others: Entry) -> Page:
    board = boards.board(entry)
    return Page(board, board.sections[0], entry, [(board, entry), *((boards.board(o, eps=8), o) for o in others)])


def test_the_same_boards_give_the_same_bytes(tmp_path: Path) -> None:
    build(boards.full(), tmp_path / "one")
    build(boards.full(), tmp_path / "two")
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    names = (
        "4-255.medfedpure",
        "4-255.shielded:detector=lid",
        "4-255.undefended",
        "4-255.half-done",
        "8-255.medfedpure",
    )
    rows = {f"entries/brainsim-linf-{name}.html" for name in names}
    made = {f"boards/brainsim-linf-{eps}-255.html" for eps in (4, 8)}
    assert set(one) == {*SITE, *made, *rows}
    assert not any(b"\r" in text for text in one.values())


def test_every_link_leads_somewhere(tmp_path: Path) -> None:
    build(boards.full(), tmp_path, studies_of())
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in tmp_path.rglob("*.html")}
    assert len(pages) == 12
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), f"{path.name}: a name is given twice"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert link == "https://example.org/paper"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_relative_to(tmp_path):
                assert (ROOT / target.relative_to(tmp_path.parent)).is_file(), f"{path.name} links to {link}"
                continue
            if (path.parent == tmp_path and link in BESIDE) or (target.parent == tmp_path and target.name in BESIDE):
                assert (ROOT / "leaderboard" / target.name).is_file()
                continue
            assert target.is_file(), f"{path.name} links to {link}"
            if parts.fragment:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.name} links to {link}"


def test_a_cell_says_what_it_is_sorted_by_where_it_does_not_show_it() -> None:
    assert [TableCell("53.1", "", 0.53125).sorted_by, TableCell("64/48", "", 64).sorted_by] == ["", "64"]
    assert TableCell("1.23 M", "", 1_230_000).sorted_by == "1230000"
    assert TableCell(f"{MINUS}0.5", "", -0.005).sorted_by == "-0.005"
    assert [TableCell("300", "", 300.0).sorted_by, TableCell("510", "", 510.291727656238).sorted_by] == ["", "510.292"]
    assert TableCell("2026-11-29", "", "2026-11-29").sorted_by == ""
    text = lines.cells(filled([boards.entry()]), boards.entry())
    assert "<td class=cleancol>95.0" in text


def test_rows_that_are_gone_leave_no_page_and_other_files_stay(tmp_path: Path) -> None:
    build(boards.full(), tmp_path)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "brainsim.jsonl").write_text("kept")
    build([boards.board(boards.entry("alone", id="alone"))], tmp_path)
    assert set(files(tmp_path)) == {
        *SITE,
        "boards/brainsim-linf-4-255.html",
        "entries/alone.html",
        "records/brainsim.jsonl",
    }


def test_no_boards_make_a_page_too(tmp_path: Path) -> None:
    build([], tmp_path)
    assert "0 rows from 0 records on 0 boards." in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_example_is_the_largest_drop_of_a_ranked_row(tmp_path: Path) -> None:
    build(boards.full(), tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    told = text[text.index("class=example") : text.index("All terms, attackers")]
    assert 'href="entries/brainsim-linf-8-255.medfedpure.html"' in told
    assert [told.index(part) for part in ("90.0", "20.0", "40.0")] == sorted(
        told.index(part) for part in ("90.0", "20.0", "40.0")
    )


def test_published_claims_are_marked_as_such(tmp_path: Path) -> None:
    build(boards.full(), tmp_path)
    text = (tmp_path / "boards" / "brainsim-linf-4-255.html").read_text(encoding="utf-8")
    told = text[text.index("Published figures of others") :]
    assert "They were not measured here and have no rank." in told
    assert text.count("97.67") == told.count("97.67") == told.count("87.33") == 1, "once a board, not on each row"


def test_answers_are_counted_from_images() -> None:
    clean, attacked = page_of(boards.entry()).confusion
    assert [(truth, [cell.text for cell in cells]) for truth, cells in clean.rows] == [
        ("no tumour", ["4", "0"]),
        ("tumour", ["0", "4"]),
    ]
    assert attacked.answers == ["no tumour", "tumour", "abstained"]
    # Of the images with a tumour, one is answered wrong in both draws, and one has no answer in one draw and wrong in
    # the other.
    rows = [(truth, [cell.text for cell in cells]) for truth, cells in attacked.rows]
    assert rows == [("no tumour", ["2", "2", "0"]), ("tumour", ["1.5", "2", "0.5"])]
    assert [cell.share for cell in attacked.rows[1][1]] == [0.375, 0.5, 0.125]
    assert [cell.right for cell in attacked.rows[1][1]] == [False, True, False]


def test_answers_are_means_over_seeds_and_need_all_of_them() -> None:
    two = replace(boards.outcome(), attacked=boards.outcome().clean)
    entry = boards.entry(answers=(Answers.of(boards.outcome()), Answers.of(two)))
    attacked = page_of(entry).confusion[1]
    assert [cell.text for cell in attacked.rows[0][1]] == ["3", "1", "0"]
    assert page_of(replace(entry, answers=())).confusion == []


def test_attackers_that_did_not_run_share_a_line_for_each_reason() -> None:
    absent = tuple(RungFigure(name, "gate", None, reason="no <detector>") for name in ("gate one", "gate two"))
    text = lines.attackers(page_of(boards.entry(rungs=(*absent, *boards.entry().rungs))))
    assert text.count("not run: no &lt;detector&gt;") == 1
    assert "<th>gate one, gate two<td" in text
    assert text.index("full apgd") < text.index("gate one")
    assert "<th>query square<td colspan=6 class=why>not run: the budget was spent" in text


def test_the_curve_over_eps_holds_what_may_be_compared() -> None:
    one, wide = boards.entry(), boards.entry(worst=0.2, id="wide")
    curve = page_of(one, wide).eps
    assert curve is not None
    assert [board.eps_text for board, _ in curve.rows] == ["4/255", "8/255"]
    assert "8/255: worst case 20.0 % (10 to 30)" in curve.chart
    assert page_of(one, replace(wide, images=32)).eps is None
    assert page_of(one).eps is None


def test_the_roc_curve_and_its_points() -> None:
    page = page_of(boards.entry())
    assert page.roc_points == [(0.01, [0.0]), (0.02, [0.0]), (0.05, [0.4]), (0.1, [0.4]), (0.2, [0.8]), (0.5, [0.8])]
    assert page.roc_names == ["seed 0"]
    assert page.roc is not None
    assert "deployed: FPR 5.0 %, TPR 40.0 %" in page.roc
    bare = page_of(boards.entry(fpr=None, tpr=None, auroc=None, outcomes=(None,)))
    assert (bare.roc, bare.detector) == (None, [])


def test_attackers_measured_one_by_one_are_not_averaged() -> None:
    threats = [{"norm": "linf", "eps": 4 / 255, "access": access} for access in ("full", "query")]
    records = tuple(boards.record(threat["access"], threat=threat) for threat in threats)
    page = page_of(boards.entry(records=records, outcomes=(boards.outcome("full"), boards.outcome("query"))))
    assert len(page.confusion) == 2  # of the worst case of both
    assert [before for _, before, _ in page.ladder] == [None, None, None]
    assert page.roc_names == ["full, seed 0", "query, seed 0"]


def test_the_command_of_each_record_is_shown_once(tmp_path: Path) -> None:
    entry = boards.entry(claim_records=(boards.record(), boards.record("other", role="claim")))
    page = page_of(entry)
    assert page.commands == [command(each) for each in (boards.record(), boards.record("other", role="claim"))]
    told = boards.record("old", dataset={"name": "brainsim", "params_passed": {}, "synthetic": True})
    old = page_of(boards.entry(records=(told,)))
    assert old.commands == []
    assert "record old does not hold the options of its run" in old.no_command[0]


def test_bars_and_charts_are_made_of_shares() -> None:
    bar = charts.summary_bar(0.95, 0.9, 0.5, 0.4)
    assert '<path class=worst d="M0 6H50"/>' in bar
    assert '<path class=drop d="M50 6h40"/>' in bar
    assert "drop" not in charts.summary_bar(0.95, 0.9, 0.5, None)
    assert "worst" not in charts.summary_bar(0.95, 0.9, None, None)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (percent(0.89063), "89.1"),
        (percent(None), DASH),
        (percent(-0.0052), f"{MINUS}0.5"),
        (percent(-0.0001), "0.0"),
        (interval(Figure(0.5, 0.4449, 0.55)), f"44{DASH}55"),
        (interval(Figure(0.5)), ""),
        (interval(None), ""),
        (count(640), "640"),
        (count(1_234_567), "1.23\N{NO-BREAK SPACE}M"),
        (count(12.34), "12.3"),
        (count(None), DASH),
        (web("https://example.org/a"), "https://example.org/a"),
        (web("javascript:alert(1)"), ""),
        (web("//e.org"), ""),
        (web("https://[bad"), ""),
        (web(" https:x"), ""),
    ],
)
def test_figures_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


def test_pictures_are_linked_where_they_are(tmp_path: Path) -> None:
    gallery(tmp_path)
    build(boards.full(), tmp_path)
    text = (tmp_path / "entries" / "brainsim-linf-4-255.medfedpure.html").read_text(encoding="utf-8")
    picture = "../gallery/brainsim-linf-4-255.medfedpure/1.png"
    assert text.count(picture) == 1
    assert f'<img src="{picture}" alt="five pictures"' in text
    told = " ".join(re.sub(r"<[^>]+>", " ", text[text.index("<figcaption>") :]).split())
    assert "Answer of the system tumour tumour Answer of the classifier alone tumour no tumour" in told
    assert "flagged above 0.250 &lt; 0.001 0.500, flagged Purified no yes" in told
    assert "&lt;b&gt;hospital-1&lt;/b&gt;" in text
    other = (tmp_path / "entries" / "brainsim-linf-8-255.medfedpure.html").read_text(encoding="utf-8")
    assert "gallery/" not in other


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"file": "../../secret.png"}, "should match pattern"),
        ({"file": "2.png"}, "names 2.png, which is not there"),
        ({"width": -1}, "greater than or equal to 1"),
    ],
)
def test_a_damaged_gallery_is_named_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    gallery(tmp_path, **changes)
    with pytest.raises(DataError, match=reason) as found:
        build(boards.full(), tmp_path)
    assert "gallery.json" in str(found.value)
    assert not defaultdict(bytes, files(tmp_path)).get("index.html")
    assert not (tmp_path / "entries").exists()
