"""A report of one's own results: one file, with the same tables and charts as the leaderboard."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from robustbench_med.errors import DataError, StoreError
from robustbench_med.files.atomic import replacing, write_text
from robustbench_med.files.escaping import escape_markdown, straight
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.render.markdown import to_markdown
from robustbench_med.leaderboard.render.page import measured
from robustbench_med.leaderboard.render.page.environment import HERE, environment
from robustbench_med.leaderboard.render.page.row_names import People
from robustbench_med.leaderboard.render.page.site import example, foot, marks, row_pages
from robustbench_med.leaderboard.sources.consistency import outcomes_of
from robustbench_med.leaderboard.sources.names import Names
from robustbench_med.records.folder import open_results, samples_of
from robustbench_med.records.record import Record, latest
from robustbench_med.records.sections.base import formatted

#: Names under which Chromium is found, which prints to PDF.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Seconds that it may take.
PATIENCE = 180


@dataclass(frozen=True)
class ResultsReport:
    """Results and what follows from them.

    Attributes:
        name: of the results.
        boards: rows as the leaderboard would have them, with the reasons why some have no rank.
        unmeasured: cells that were skipped or failed, and why.
        records: the measured cells.
        names: of components, for people.
    """

    name: str
    boards: Sequence[Board]
    unmeasured: Sequence[tuple[str, str]]
    records: Sequence[Record] = ()
    names: Names = field(default_factory=dict)


def read(folders: Sequence[Path], named: Callable[[Sequence[Record]], Names] | None = None) -> ResultsReport:
    """The report of folders of results, or of files of records.

    Args:
        folders: of results.
        named: gives the names of the components in records, for people.

    Raises:
        DataError: there are no records, or images do not give the figures of their record.
    """
    own = {place: open_results(place) for place in folders}
    records = [record for there in own.values() for record in there]
    found = (outcomes_of(there, samples_of(place)) for place, there in own.items())
    outcomes = {cell: outcome for there in found for cell, outcome in there.items()}
    missing = [(_named(record), record.reason or record.status) for record in records if record.status != "ok"]
    name = ", ".join(place.resolve().name for place in folders)
    ok = [record for record in latest(records) if record.status == "ok"]
    names = named(ok) if named else {}
    return ResultsReport(name, measured.as_measured(boards(records, outcomes, names=names)), missing, ok, names)


def html(report: ResultsReport, pictures: Path | None = None) -> str:
    """One file with everything in it, the rows' galleries in ``pictures`` included: it asks for nothing else."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"Report: {report.name}"
    people = People.among(report.boards, report.names)
    template = environment().get_template("report.html")
    text = template.render(
        boards=report.boards,
        pages=list(row_pages(report.boards, pictures, people=people)),
        people=people,
        unmeasured=report.unmeasured,
        measured=measured.cells(report.records),
        root="",
        policy=policy,
        inline=True,
        style=Markup(style),
        script=Markup(script),
        page_of=lambda entry: f"#page-{entry.id}",
        board_page=lambda board: f"#{board.id}",
        foot=foot(report.boards),
        title=title,
        example=example(report.boards),
        marks=marks(report.boards),
    )
    return straight(text)


def md(report: ResultsReport) -> str:
    """The tables as Markdown."""
    head = "\n".join([f"# Report: {escape_markdown(report.name)}", "", *measured.md(report.records)])
    head += "\nRanks count among these rows only.\n"
    missing = [f"- {escape_markdown(name)}: {escape_markdown(reason)}" for name, reason in report.unmeasured]
    tail = "\n".join(["", "## Not measured", "", *missing, ""]) if missing else ""
    return to_markdown(report.boards, head=head) + tail


def write(report: ResultsReport, form: str, target: Path, pictures: Path | None = None) -> None:
    """Write a report: ``html``, ``md`` or ``pdf``, whole or not at all; ``pictures`` is the folder of galleries.

    Raises:
        DataError: there is no Chromium to print a PDF.
        StoreError: it cannot be written.
    """
    if form == "pdf":
        _print(html(report, pictures), target)
    else:
        write_text(target, html(report, pictures) if form == "html" else md(report))


def _print(text: str, target: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise DataError(
            f"--format pdf needs Chromium (one of {', '.join(BROWSERS)}), and none is installed; --format html can be "
            "printed from any browser"
        )
    # Chromium refuses its sandbox to root, as in a container; the file is ours and asks for nothing.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with replacing(target) as draft, tempfile.TemporaryDirectory() as folder:
        page, printed = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(text, encoding="utf-8")
        command = [
            browser,
            "--headless=new",
            "--disable-gpu",
            *sandbox,
            f"--user-data-dir={folder}/profile",
            "--no-pdf-header-footer",
            f"--print-to-pdf={printed}",
            page.as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            raise StoreError(f"cannot write {target}: {browser} did not print within {PATIENCE} s") from None
        if done.returncode or not printed.is_file():
            last = " ".join(done.stderr.split()[-30:])
            raise StoreError(f"cannot write {target}: {browser} did not print: {last}")
        shutil.copyfile(printed, draft)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _named(record: Record) -> str:
    names = (formatted(record.defense), formatted(record.attack), record.threat.access, record.dataset.name)
    return " / ".join(names)
