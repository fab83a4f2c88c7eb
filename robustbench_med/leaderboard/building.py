"""The generated files of a leaderboard: written, or compared with what is there."""

from __future__ import annotations

from pathlib import Path

from robustbench_med.atomic import write_text
from robustbench_med.leaderboard.data_formats import to_csv, to_json
from robustbench_med.leaderboard.latex import to_tex
from robustbench_med.leaderboard.markdown import to_markdown
from robustbench_med.leaderboard.sources import Sources


def rendered(sources: Sources) -> dict[str, str]:
    """The generated files by name; the same records give the same text on every machine."""
    boards = sources.boards()
    return {
        "README.md": to_markdown(boards, sources.published.claims),
        "leaderboard.csv": to_csv(boards),
        "leaderboard.json": to_json(boards),
        "leaderboard.tex": to_tex(boards),
    }


def write(root: Path, files: dict[str, str]) -> list[str]:
    """Write what changed; the names of these files.

    Raises:
        StoreError: a file cannot be written.
    """
    changed = stale(root, files)
    for name in changed:
        write_text(root / name, files[name])
    return changed


def stale(root: Path, files: dict[str, str]) -> list[str]:
    """The files that are not there, or say something else."""
    return [name for name, text in files.items() if not _says(root / name, text)]


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
