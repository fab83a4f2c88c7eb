"""``rbmed submit``: results as one file for the leaderboard, with the text of a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.app import LEADERBOARD, app
from robustbench_med.cli.console import err, plain
from robustbench_med.cli.options import DataRoot, PluginFiles, registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robustbench_med.leaderboard.sources.submission import Review, Submission
    from robustbench_med.leaderboard.sources.test_split import TestSplit
    from robustbench_med.plugins.registry import Registry
    from robustbench_med.records.record import Record


@app.command(rich_help_panel=LEADERBOARD)
def submit(
    results: Annotated[Path, typer.Argument(help="Folder of results, with its samples.")],
    defense: Annotated[str, typer.Option(help="The defense, as it was given to the run.")],
    paper: Annotated[str, typer.Option(help="URL of the paper: https://...")],
    cite: Annotated[str, typer.Option(help="Citation of the paper, such as 'Someone et al. 2026'. [its URL]")] = "",
    notes: Annotated[str, typer.Option(help="A note for readers, on one line.")] = "",
    name: Annotated[str | None, typer.Option(help="Name of the file. [that of the defense]")] = None,
    target: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("submission"),
    root: Annotated[Path, typer.Option(help="Folder of the leaderboard, to compare with.")] = Path("leaderboard"),
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Check results and write a submission: NAME.json and the text of a pull request; exit code 1 if it is refused."""
    from robustbench_med.files.atomic import check_writable, write_text
    from robustbench_med.leaderboard.entry import Paper
    from robustbench_med.leaderboard.ranking.boards import boards
    from robustbench_med.leaderboard.render import pull_request
    from robustbench_med.leaderboard.sources.submission import checked_text, collect, default_name, write

    checked_text("--notes", notes)
    checked_text("--cite", cite)
    check_writable(target)
    made = collect(results, name or default_name(defense), defense, Paper(cite or paper, paper), notes)
    there, splits = known(root)
    result = judged(made, there, splits, registry(plugin), data_root)
    show(result)
    if result.refused:
        raise typer.Exit(1)
    write(target / f"{made.name}.json", made)
    text = pull_request.text(made, result, boards(made.records, made.outcomes))
    write_text(target / "pull-request.md", text)
    plain(f"{target / made.name}.json: copy it to leaderboard/submissions; the text is in {target / 'pull-request.md'}")


def known(root: Path) -> tuple[dict[str, Record], Mapping[str, TestSplit]]:
    """Cells and test splits of a leaderboard; empty where there is no such folder."""
    from robustbench_med.leaderboard.sources.folder import read_sources
    from robustbench_med.leaderboard.sources.records import RECORDS

    if not (root / RECORDS).is_dir():
        return {}, {}
    sources = read_sources(root)
    return {record.cell_id: record for record in sources.records}, sources.splits


def judged(
    made: Submission,
    there: Mapping[str, Record],
    splits: Mapping[str, TestSplit],
    plugins: Registry,
    data_root: Path | None,
) -> Review:
    """The review of a submission, with what does not add up in it."""
    from robustbench_med.leaderboard.sources.submission import Review, review
    from robustbench_med.reproduction.plausibility import fold_objections, objections

    found = review(made, there)
    against = (*objections(made, splits, plugins, data_root), *fold_objections(made))
    return Review((*found.refused, *against), found.notes)


def show(result: Review) -> None:
    """Print why it is refused, and the notes for readers."""
    for note in result.notes:
        plain(f"note: {note}")
    for reason in result.refused:
        err.print(f"refused: {reason}", markup=False, soft_wrap=True)
