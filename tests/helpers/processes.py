"""Processes that tests start: the limits do not depend on the speed of the machine, and every process is ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: Seconds after which a process counts as hanging, however slow or busy the machine is.
LIMIT = 1800


@contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in its own process group; at the end the whole group is killed and all pipes are closed.

    Args:
        command: the program and its arguments.
        options: of `subprocess.Popen`.
    """
    with subprocess.Popen(list(map(str, command)), text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run(command: Sequence[str | Path], *, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a process to its end and capture its output.

    Args:
        command: the program and its arguments.
        check: fail, and show the output, if the exit code is not 0.
        options: of `subprocess.Popen`.

    Raises:
        TimeoutExpired: it runs for longer than `LIMIT`.
    """
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert not check or process.returncode == 0, f"exit code {process.returncode}\n{out}{err}"
    return subprocess.CompletedProcess(command, process.returncode, out, err)
