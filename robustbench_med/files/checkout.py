"""The source checkout that the code runs from."""

from __future__ import annotations

import tomllib
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
