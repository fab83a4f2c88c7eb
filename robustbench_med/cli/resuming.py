"""Commands that go on where they were interrupted: the last line says what is kept, and the command that resumes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from robustbench_med.cli import interrupts
from robustbench_med.cli.console import err


@contextmanager
def resumable(kept: Callable[[], str]) -> Iterator[None]:
    """After Ctrl-C or ``kill`` within the block, say what is ``kept`` and how to resume, and exit.

    Raises:
        Exit: it was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(["rbmed", *sys.argv[1:]])
        line = f"{interrupts.word()}: {kept()}; resume with: {command}"
        err.print(line, style="yellow", markup=False, soft_wrap=True)
        raise typer.Exit(interrupts.exit_code()) from None
