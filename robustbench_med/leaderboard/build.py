"""The generated files of a leaderboard: written, or compared with what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from robustbench_med.files.atomic import new_folder, store_errors, write_text
from robustbench_med.leaderboard import parallel
from robustbench_med.leaderboard.render.data_formats import to_csv, to_json
from robustbench_med.leaderboard.render.latex import to_tex
from robustbench_med.leaderboard.render.markdown import to_markdown
from robustbench_med.leaderboard.render.page.site import pages
from robustbench_med.leaderboard.render.studies.all import studies
from robustbench_med.leaderboard.render.studies.all import to_csv as of_study
from robustbench_med.leaderboard.sources.folder import Sources, no_collection
from robustbench_med.leaderboard.sources.names import NAMES, dumped

#: Folders of generated files: what lies in them and is not of these records goes.
FOLDERS = ("assets", "boards", "entries", "studies")


def rendered(sources: Sources, pictures: Path | None = None) -> dict[str, str]:
    """The generated files by name; the same records give the same text on every machine.

    Args:
        sources: what they are made from.
        pictures: folder of the rows' galleries, which the pages link.
    """
    with no_collection():
        boards, beside = sources.boards(), studies(sources.studies, sources.names)
        made: dict[str, Callable[[], str]] = {
            "README.md": lambda: to_markdown(boards, sources.published.claims, notice=sources.notice, studies=beside),
            "leaderboard.csv": lambda: to_csv(boards),
            "leaderboard.json": lambda: to_json(boards, beside),
            "leaderboard.tex": lambda: to_tex(boards),
            NAMES: lambda: dumped(sources.names),
            **dict(pages(boards, pictures, sources.notice, sources.names, beside)),
            **{f"studies/{study.id}.csv": partial(of_study, study) for study in beside},
        }
        work = list(made.values())
        return dict(zip(made, parallel.done(lambda at: work[at](), len(work)), strict=True))


def write(root: Path, files: dict[str, str]) -> list[str]:
    """Write what changed; the names of these files, also of those that are gone.

    Raises:
        StoreError: a file cannot be written.
    """
    changed = stale(root, files)
    for folder in {name.partition("/")[0] for name in changed if "/" in name}:
        with new_folder(root / folder) as draft:
            for name in files:
                if name.startswith(f"{folder}/"):
                    with store_errors(root / name):
                        (draft / name.removeprefix(f"{folder}/")).write_bytes(files[name].encode())
    for name in changed:
        if "/" not in name:
            write_text(root / name, files[name])
    return changed


def stale(root: Path, files: dict[str, str]) -> list[str]:
    """The files that are not there, say something else, or are there and should not be."""
    other = [
        name
        for name, text in files.items()
        if not ((path := root / name).is_file() and path.read_bytes() == text.encode())
    ]
    there = (path for folder in FOLDERS for path in sorted((root / folder).glob("*")))
    return other + [name for path in there if (name := path.relative_to(root).as_posix()) not in files]
