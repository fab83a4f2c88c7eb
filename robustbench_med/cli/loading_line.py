"""A line while a command loads its libraries, which takes seconds: whoever started it sees that it works.

On a terminal it vanishes when the command has something to say. This is imported before anything that takes time.
"""

from __future__ import annotations

import os
import sys
import threading

#: Seconds without output after which the line is shown.
PATIENCE = 0.3
#: Commands that load little: only who sits at a terminal wants to see that a slow machine works on them.
QUICK = {"list", "plugins", "new", "completion"}
#: With these nobody wants to read anything but results.
SILENT = {"--quiet", "-q", "--json"}


class Waiting:
    """Shows the line unless something was written before; `ended` is called before the first output."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.shown = self.over = False
        self.lock = threading.Lock()
        self.timer = threading.Timer(PATIENCE, self._show)
        self.timer.daemon = True

    def start(self) -> None:
        """Begin to wait."""
        self.timer.start()

    def ended(self) -> None:
        """Something is about to be written: take the line away."""
        if self.over:
            return
        with self.lock:
            self.over = True
            if self.shown and os.isatty(2):
                os.write(2, b"\r\x1b[K")
        self.timer.cancel()

    def _show(self) -> None:
        with self.lock:
            if self.over:
                return
            self.shown = True
            end = "" if os.isatty(2) else "\n"
            try:
                os.write(2, f"rbmed {self.command}: loading ...{end}".encode("ascii", "replace"))
            except OSError:
                self.over = True


def begin() -> Waiting | None:
    """Wait for the output of the command that was started; None where it should stay silent."""
    words = sys.argv[1:]
    command = next((word for word in words if word.isidentifier()), "")
    if not command or command == "completion" or SILENT & set(words) or "_RBMED_COMPLETE" in os.environ:
        return None
    if command in QUICK and not os.isatty(2):
        return None
    waiting = Waiting(command)
    waiting.start()
    return waiting
