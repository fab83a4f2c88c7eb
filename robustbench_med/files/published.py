"""What is published with the package: the configurations of its tables, and the leaderboard's sources."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from robustbench_med.files.checkout import checkout

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
