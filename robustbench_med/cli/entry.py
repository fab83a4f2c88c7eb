"""The program ``rbmed``: from its first line to its last, Ctrl-C ends it with exit code 130 and without a traceback."""

from __future__ import annotations

import sys

from robustbench_med.cli import interrupts


def main() -> None:
    """Run the command line."""
    interrupts.end_at_once()  # before anything that takes time is imported
    from robustbench_med.cli import loading_line, streams

    streams.prepare(loading_line.begin())
    from robustbench_med.cli.main import main as run

    try:
        run()
    except SystemExit as ended:
        sys.exit(streams.finished(ended.code))
