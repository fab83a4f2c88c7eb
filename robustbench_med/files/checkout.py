"""The source checkout that the code runs from, and what is published: the configurations, the leaderboard's sources."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path


def checkout(file: Path) -> Path | None:
    """The root of the source checkout of robustbench-med that holds ``file``; None for an installed file."""
    for folder in file.resolve().parents:
        if folder.name in ("site-packages", "dist-packages"):  # of an environment that may lie inside a checkout
            return None
        # ``.git`` is a file in a worktree.
        if (folder / ".git").exists() and _project(folder / "pyproject.toml") == "robustbench-med":
            return folder
    return None


def _project(file: Path) -> str | None:
    """The name of the project that a pyproject.toml describes; None without a readable one."""
    try:
        name = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


#: The folder inside an installed package.
INSTALLED = Path(__file__).parents[1] / "published"


@cache
def published(name: str, file: Path = Path(__file__)) -> Path | None:
    """The folder ``configs`` or ``leaderboard`` as it was published; None if neither installed nor in a checkout.

    Args:
        name: of the folder.
        file: of the package, whose checkout is looked into.
    """
    if (INSTALLED / name).is_dir():
        return INSTALLED / name
    root = checkout(file)
    return root / name if root is not None and (root / name).is_dir() else None
