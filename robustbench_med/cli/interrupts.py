"""Ctrl-C: raised once in a command, which says what it keeps; at any other time, and the second time, it ends at once.

This is imported before anything else, so it imports next to nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

#: Exit code of a program that was interrupted.
INTERRUPTED = 130


def end_at_once() -> None:
    """From now on Ctrl-C ends the program, unless whoever started it has switched Ctrl-C off."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
        # Registered first, so called last: then Python no longer calls handlers, and the exit code would be lost.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = _unraisable


class Raised:
    """Within the block, the first Ctrl-C is a `KeyboardInterrupt`; the second ends a program that has `end_at_once`."""

    def __enter__(self) -> None:
        self.active = signal.getsignal(signal.SIGINT) is _end
        if self.active:
            signal.signal(signal.SIGINT, _first)

    def __exit__(self, *_: object) -> None:
        if self.active:
            signal.signal(signal.SIGINT, _end)


def _first(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _end)
    raise KeyboardInterrupt


def _end(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """End without cleaning up: finished work is on disk, and other processes end with this one."""
    try:
        os.write(2, b"error: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops an interruption that meets it in a callback; it would print a traceback and go on."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(unraisable)
