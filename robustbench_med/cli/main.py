"""The commands of ``rbmed``: each module in `robustbench_med.cli.commands` registers its own when it is imported."""

from __future__ import annotations

import importlib

from robustbench_med.cli import console
from robustbench_med.cli.app import app

#: Modules of commands, in the order of the help.
MODULES = (
    *("plan", "run", "certify", "train", "reproduce"),
    *("table_", "report", "export", "diff", "merge", "verify", "push"),
    *("leaderboard", "submissions", "gallery", "attacks", "submit"),
    *("list_", "show", "data", "plugins", "new", "check", "completion"),
)
for module in MODULES:
    importlib.import_module(f"robustbench_med.cli.commands.{module}")


def main() -> None:
    """Run the command line."""
    console.write_anything()
    app()
