"""The files of the leaderboard: byte for byte, harmless whatever third parties write, and as committed.

After a change of a format that was meant, ``REWRITE_GOLDEN=1 pytest tests/leaderboard/test_formats.py`` writes the
golden files anew; read the difference before it is committed.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.leaderboard import example, folder
from helpers.paths import ROOT
from helpers.records import ladder_record
from markdown_it import MarkdownIt

from robustbench_med.files.escaping import escape_csv, escape_markdown, escape_tex
from robustbench_med.leaderboard.build import rendered
from robustbench_med.leaderboard.render.columns import BY_NAME
from robustbench_med.leaderboard.sources.claims import Publications
from robustbench_med.leaderboard.sources.folder import Sources, read_sources
from robustbench_med.records.table import to_csv

GOLDEN = Path(__file__).parent / "golden"
ROOT = ROOT / "leaderboard"
HOSTILE = '<script>alert(1)</script>|`x`[a](javascript:b)\\input{c}$d$_e_*f*&amp;@g https://h.example ](i "=j"\u202e'


@pytest.mark.parametrize("name", ["README.md", "leaderboard.csv", "leaderboard.json", "leaderboard.tex"])
def test_every_format_is_what_it_was(name: str, tmp_path: Path) -> None:
    text = rendered(read_sources(example(tmp_path)))[name]
    if "REWRITE_GOLDEN" in os.environ:
        GOLDEN.mkdir(parents=True, exist_ok=True)
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_a_notice_is_shown_above_the_boards_and_cannot_inject_markup(tmp_path: Path) -> None:
    root = example(tmp_path)
    (root / "notice.txt").write_text("Rows are\ntoo high: <b>62.5 %</b>\n")
    files = rendered(read_sources(root))
    assert "> Rows are too high" in files["README.md"].partition("## ")[0]
    assert "Rows are too high: &lt;b&gt;62.5 %" in files["index.html"].partition('<main id="boards"')[0]
    assert all("<b>62.5" not in text for text in files.values())


def test_the_order_of_files_and_lines_changes_nothing(tmp_path: Path) -> None:
    sources = read_sources(example(tmp_path))
    turned = Sources({"z": sources.records[::-1]}, dict(reversed(sources.outcomes.items())), sources.published)
    assert rendered(turned) == rendered(sources)


def test_what_is_committed_is_what_the_records_give() -> None:
    files = rendered(read_sources(ROOT), ROOT / "gallery")
    stale = [name for name, text in files.items() if (ROOT / name).read_text(encoding="utf-8") != text]
    assert not stale, f"run rbmed leaderboard build: {stale}"


def test_a_page_that_quotes_a_row_quotes_it_right() -> None:
    """A line of a table that links to a row's page repeats its figures: rank, defense, clean, robust, claim, drop."""
    boards = read_sources(ROOT).boards()
    entries = {entry.id: entry for board in boards for section in board.sections for entry in section.entries}
    quoted = 0
    for page in (ROOT.parent / "README.md", ROOT.parent / "docs" / "plus.md"):
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("|") and (link := re.search(r"\[`(.+?)`]\(\S*leaderboard/entries/(\S+?)\.html\)", line)):
                entry = entries[link[2]]
                assert entry.defense.startswith(link[1])
                figures = [BY_NAME[name].text(entry) for name in ("clean", "robust", "claim", "drop")]
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                assert cells[-4:] == figures, f"{page.name}: {link[2]}"
                assert not entry.ranked or f"| {BY_NAME['rank'].text(entry)} |" in line
                quoted += 1
    assert quoted


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.links: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        for name, value in attrs:
            assert name in ("id", "href", "style"), (tag, name)
            if name == "href":
                self.links.add(str(value))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def hostile(root: Path) -> Path:
    text = json.dumps(HOSTILE)
    record = ladder_record(name=HOSTILE)
    data: dict[str, Any] = record.dataset.model_dump() | {"name": HOSTILE, "partition": HOSTILE, "licence": HOSTILE}
    defense = record.defense.model_dump() | {
        "strategy": {"name": HOSTILE, "params_passed": {HOSTILE: HOSTILE}},
        "params_passed": {HOSTILE: HOSTILE},
        "parts": {"model": {"name": HOSTILE}},
        "reference": HOSTILE,
    }
    fields: dict[str, Any] = {"dataset": data, "defense": defense}
    clients = {
        HOSTILE: {"clean_accuracy": 1.0, "robust_accuracy": 0.5},
        "b": {"clean_accuracy": 1.0, "robust_accuracy": 1.0},
    }
    ranked = ladder_record(
        "0",
        **fields,
        clients=list(clients),
        per_client=clients,
        worst_client=HOSTILE,
        diagnostics={"level": "cheap", "flags": [HOSTILE]},
    )
    failed = ladder_record("1", **fields, status="failed", reason=HOSTILE, limit=3)
    claims = "".join(f"{name} = {text}\n" for name in ("name", "dataset", "attack", "source", "note", "defense"))
    return folder(root, ranked, failed, claims=f"[[claim]]\n{claims}")


def test_hostile_text_is_text_in_markdown(tmp_path: Path) -> None:
    text = rendered(read_sources(hostile(tmp_path)))["README.md"]
    page = _Tags()
    page.feed(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text))
    assert page.seen <= {
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "strong",
        "code",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
    }
    data = {f"leaderboard.{form}" for form in ("csv", "json", "tex")}
    assert page.links <= {"../docs/leaderboard.md", "../docs/glossary.md", *data}
    shown = "".join(page.text)
    assert HOSTILE.replace("\u202e", "").strip() in " ".join(shown.split())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    assert not re.search(r"<script|@g|https?://h|www\.", text)


@pytest.mark.parametrize(
    "text", [HOSTILE, "a|b", "www.x.org", "http://x.org", "`code`", "1. *x*", "# x", "<b>", "a\nb|\n- c", "&lt;"]
)
def test_any_text_is_one_plain_cell(text: str) -> None:
    html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(
        f"| a |\n| --- |\n| {escape_markdown(text)} |\n"
    )
    page = _Tags()
    page.feed(html)
    assert page.seen == {"table", "thead", "tbody", "tr", "th", "td"}
    assert html.count("<td>") == 1


def test_hostile_text_is_text_in_the_other_formats(tmp_path: Path) -> None:
    files = rendered(read_sources(hostile(tmp_path)))
    assert "<" not in files["leaderboard.json"]
    boards = json.loads(files["leaderboard.json"])["boards"]
    assert boards[0]["dataset"] == HOSTILE
    rows = list(csv.reader(io.StringIO(files["leaderboard.csv"])))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows[1:] for cell in row if cell.startswith(("=", "@", "+")) or "\n" in cell]
    commands = set(re.findall(r"\\[a-z]+", files["leaderboard.tex"]))
    assert commands <= {
        r"\begin",
        r"\end",
        r"\centering",
        r"\caption",
        r"\label",
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\usepackage",
        r"\textbackslash",
        r"\textless",
        r"\textgreater",
        r"\textbar",
        r"\textasciigrave",
        r"\textquotedbl",
    }


def test_tex_has_no_open_brace_and_no_formula() -> None:
    shown = re.sub(r"\\[{}$&#_%]", "", escape_tex(HOSTILE))
    assert not set(shown) & set("$&#_%~^|`")
    assert shown.count("{") == shown.count("}")


def test_a_formula_is_no_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    record = ladder_record(name="=1+1")
    text = rendered(Sources({"a": [record]}, {}, Publications()))["leaderboard.csv"]
    assert "'=1+1" in text


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe62", "\u2212"])
@pytest.mark.parametrize("before", ["", " ", "\t", "\r", "\n", "\x1b[0m", "\x00"])
def test_no_form_of_a_formula_survives(sign: str, before: str) -> None:
    assert escape_csv(f"{before}{sign}1").startswith("'")
    assert to_csv(pd.DataFrame({f"{before}{sign}a": [f"{before}{sign}b"], "c": [-1]})).count("'") == 2
