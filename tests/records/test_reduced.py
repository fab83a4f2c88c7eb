"""Tens of thousands of records: tables keep what they show, and say the same."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.paths import ROOT

from robustbench_med.cli import console
from robustbench_med.records import folder
from robustbench_med.records.export import kept_as, parts
from robustbench_med.records.record import Record, dumped, parse, read
from robustbench_med.records.reduced import lean

FILES = sorted((ROOT / "leaderboard" / "records").glob("*.jsonl"))


@pytest.fixture(scope="module")
def published() -> list[Record]:
    return [record for file in FILES for record in read(file)]


def test_a_table_of_lean_records_is_that_of_whole_ones(published: list[Record]) -> None:
    row = kept_as("csv")
    assert [*parts([row(lean(each)) for each in published], "csv")] == [*parts(list(map(row, published)), "csv")]


def test_records_share_sections_that_are_equal(published: list[Record]) -> None:
    assert len({id(record.dataset) for record in published}) < len(published) / 5
    for record in published[::50]:
        assert parse(dumped(record)) == record


def test_a_fault_in_a_shared_section_is_named_in_full() -> None:
    facts = json.loads(FILES[0].read_text().splitlines()[0])
    facts["dataset"]["synthetic"] = "no"
    with pytest.raises(ValueError, match=r"^dataset\.synthetic: "):
        parse(json.dumps(facts))
    del facts["dataset"]
    with pytest.raises(ValueError, match=r"^dataset: Field required"):
        parse(json.dumps(facts))


@pytest.mark.parametrize("options", [[], ["--report", "csv"]])
def test_many_records_are_shown_without_drawing_each(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: list[Record]
) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("".join(f"{dumped(record)}\n" for record in published))
    monkeypatch.setattr(folder, "LARGE", 0)
    monkeypatch.setattr(console, "MANY", 20)
    monkeypatch.setattr("robustbench_med.cli.tables.summary.MANY", 20)
    done = invoke("table", file, *options)
    assert done.exit_code == 0, done.output
    shown = [record for record in published if record.status == "ok"]
    assert len(done.stdout.splitlines()) > len(shown)


def test_lines_are_aligned() -> None:
    out = console.PlainConsole(file=io.StringIO(), width=20)
    out.print(console.Lines("title", ["a", "n"], [["x" * 30, "1"], ["\x1b[31my", "22"]], ["n"]), soft_wrap=True, end="")
    assert out.file.getvalue().splitlines()[2:] == [f"{'x' * 30}   1", f"{'y':<30}  22".replace("y     ", "y", 1)]  # type: ignore[attr-defined]
