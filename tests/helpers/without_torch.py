"""A program that runs commands where no large library can be imported, and tells what became of each.

``python without_torch.py``: a JSON list of command lines on standard input; a JSON list of ``[exit code, output]`` on
standard output, where the exit code is the name of a library that a command wanted to import.
"""

from __future__ import annotations

import importlib.abc
import json
import shlex
import sys
from typing import Any

#: What takes most of the time of a start.
LARGE = frozenset({"torch", "torchvision", "timm", "diffusers", "transformers", "sklearn", "flwr", "ray"})


class Wanted(BaseException):
    """A large library was to be imported; nothing catches it."""


class NoLargeLibrary(importlib.abc.MetaPathFinder):
    """Refuses to find the large libraries."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        root = name.partition(".")[0]
        if root in LARGE:
            raise Wanted(root)


def main() -> None:
    """Run the commands one after the other."""
    sys.meta_path.insert(0, NoLargeLibrary())
    from typer.testing import CliRunner

    from robustbench_med.cli.main import app

    found: list[tuple[int | str, str]] = []
    for words in json.load(sys.stdin):
        try:
            done = CliRunner().invoke(app, shlex.split(words))
        except Wanted as wanted:
            found.append((str(wanted), ""))
        else:
            found.append((done.exit_code, done.output + (repr(done.exception) if done.exit_code == 1 else "")))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
