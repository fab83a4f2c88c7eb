"""``rbmed report``: results as one file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import board as boards
from helpers.browser import PHONE, chromium, opened, requested, serious, show
from helpers.command import invoke
from helpers.processes import LIMIT
from typer.testing import Result

from robustbench_med.leaderboard.render.page import report
from robustbench_med.records.record import append


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A ladder, a claim, and a cell that was skipped."""
    folder = tmp_path / "own results"
    metrics = {"clean_accuracy": 0.9, "robust_accuracy": 0.5}
    intervals = {name: [value - 0.1, value + 0.1] for name, value in metrics.items()}
    rung = {
        "rung": "oblivious apgd",
        "access": "oblivious",
        "attacked": 60,
        "withstanding": 0.5,
        "broken": 10,
        "gradients_mean": 20.0,
        "queries_mean": 21.0,
        "seconds": 1.0,
        "reason": "",
    }
    append(folder / "records.jsonl", boards.record(metrics=metrics, intervals=intervals, rungs=[rung]))
    other = {"name": "undefended", "params_passed": {}, "weights": {"digest": "w2", "seed": 0}}
    skipped = boards.record(
        "skipped", defense=other, status="skipped", n=0, metrics={}, intervals={}, reason="<b>no such rung"
    )
    append(folder / "records.jsonl", skipped)
    return folder


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with opened() as started:
        yield started


def rbmed(*args: object) -> Result:
    return invoke("report", *args)


def test_a_report_is_one_file_beside_the_records(results: Path) -> None:
    done = rbmed(results)
    assert (done.exit_code, done.stdout.replace("\n", "")) == (0, str(results / "report.html"))
    text = (results / "report.html").read_text(encoding="utf-8")
    assert "<title>Report: own results</title>" in text
    assert "&lt;b&gt;no such rung" in text
    assert not re.search(r'src="|<link|href="?(?!"|#|https://)', text), "it points to another file"
    assert "class=command" in text
    first = text
    assert rbmed(results).exit_code == 0
    assert (results / "report.html").read_text(encoding="utf-8") == first


def test_markdown_and_a_file_of_ones_own(results: Path, tmp_path: Path) -> None:
    assert rbmed(results / "records.jsonl", "--format", "md", "--out", tmp_path / "r.md").exit_code == 0
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert text.startswith("# Report: records.jsonl\n")
    assert "| 90.0 | 50.0 [40, 60] |" in text
    assert "## Not measured" in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--out", "."], "--out . is a folder; name a file"),
        (["--format", "doc"], "'doc' is not one of"),
    ],
)
def test_bad_requests_are_one_line(results: Path, args: list[str], reason: str) -> None:
    done = rbmed(results, *args)
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.split())
    assert len(done.stderr.splitlines()) < 4


@pytest.mark.parametrize(
    ("args", "begins"), [(["--out", "r.md"], "#"), (["--out", "r.HTML"], "<!"), (["--out", "r", "--format", "md"], "#")]
)
def test_the_ending_of_the_file_says_the_format(
    results: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], begins: str
) -> None:
    monkeypatch.chdir(results.parent)
    done = rbmed(results, *args)
    assert done.exit_code == 0, done.output
    assert Path(args[1]).read_text(encoding="utf-8").lstrip().startswith(begins)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--out", "r.xyz"], "the ending says no format; valid: .html, .htm, .md, .pdf"),
        (["--out", "r.md", "--format", "html"], "ends as md, and --format says html"),
    ],
)
def test_an_ending_of_another_format_is_refused(
    results: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], reason: str
) -> None:
    monkeypatch.chdir(results.parent)
    done = rbmed(results, *args)
    assert done.exit_code == 2
    assert reason in done.output
    assert not Path(args[1]).exists()


def test_no_records_and_no_chromium_are_one_line(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "holds no records.jsonl" in " ".join(rbmed(tmp_path).stderr.split())
    monkeypatch.setattr(report, "BROWSERS", ("no-such-browser",))
    done = rbmed(results, "--format", "pdf")
    assert done.exit_code == 2
    assert "--format pdf needs Chromium (one of no-such-browser)" in " ".join(done.stderr.split())
    assert not (results / "report.pdf").exists()


def test_a_browser_that_fails_leaves_nothing(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "BROWSERS", ("false",))
    done = rbmed(results, "--format", "pdf")
    assert done.exit_code == 1
    assert "did not print" in done.stderr
    assert sorted(path.name for path in results.iterdir() if "report" in path.name) == []


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None or shutil.which("chromium") is None, reason="no Chromium here")
def test_pdf(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PATIENCE", LIMIT)
    done = rbmed(results, "--format", "pdf")
    assert done.exit_code == 0, done.stderr
    printed = (results / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(printed) > 20_000


@pytest.mark.browser
def test_a_report_runs_its_own_script_under_its_own_policy(results: Path, driver: Any) -> None:
    assert rbmed(results).exit_code == 0
    for size in (PHONE, (1280, 900)):
        show(driver, results / "report.html", size=size)
        assert len(requested(driver)) == 1
        assert driver.get_log("browser") == []
        assert driver.find_element("css selector", "[role=status]").text == "2 rows"
        assert driver.execute_script("return document.documentElement.scrollWidth") <= size[0]


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_in_a_report(results: Path, driver: Any, dark: bool) -> None:
    assert rbmed(results).exit_code == 0
    show(driver, results / "report.html", dark=dark)
    assert serious(driver) == []


@pytest.mark.parametrize("access", ["oblivious", "full", "query"])
def test_a_row_that_was_attacked_once_shows_what_was_measured(tmp_path: Path, access: str) -> None:
    metrics = {
        "clean_accuracy": 0.9,
        "robust_accuracy": 0.512,
        "robust_sensitivity": 0.345,
        "detector_fpr": 0.05,
        "detector_tpr": 0.5,
        "detector_auroc": 0.8,
    }
    one = boards.record(
        attack={"name": "apgd", "params": {"steps": 20, "size": None, "loss": "auto"}, "params_passed": {"steps": 20}},
        threat={"norm": "linf", "eps": 4 / 255, "access": access, "goal": "untargeted"},
        metrics=metrics,
        intervals={"robust_accuracy": [0.4, 0.6], "robust_sensitivity": [0.2, 0.5]},
        per_client=dict.fromkeys(boards.CLIENTS, metrics),
        client_images=dict.fromkeys(boards.CLIENTS, (32, 30)),
        worst_client="hospital-2",
        patients=60,
    )
    append(tmp_path / "records.jsonl", one)
    assert rbmed(tmp_path, "--format", "md").exit_code == rbmed(tmp_path).exit_code == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    head, row = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[4:7] if "---" not in line
    )
    found = dict(zip(head, row, strict=True))
    assert found == {
        "Data": "brainsim (synthetic)",
        "Defense": "medfedpure:fpr=0.05",
        "Attack": "apgd:steps=20",
        "Sees": access,
        "Clean %": "90.0",
        "Robust % [95 %]": "51.2 [40, 60]",
        "Worst client": "51.2 hospital-2",
        "AUROC": "0.800",
        "FPR / TPR %": "5.0 / 50.0",
        "images/patients": "64/60",
        "Sens. %": "34.5 [20, 50]",
        "Settings": "linf 4/255; steps=20,loss=auto; eot 4; 2 draws; seed 0",
    }
    assert text.count("51.2 [40, 60]") == 2  # and in the row of the board
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>51.2</b>" in page
    assert '<td class="n">34.5 [20, 50]' in page
    # All 64 images were attacked: of those right before, 90.0 - 51.2 % of all were broken.
    assert "<td>51.2<td>64<td>24.8<td>" in page
    assert "given the images that are still correct" not in page, "there is no attacker before it"
