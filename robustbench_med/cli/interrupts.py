"""Ctrl-C and ``kill``: raised once in a command, which says what it keeps; otherwise, and the second time, the end.

Both are a `KeyboardInterrupt`, so that whatever cleans up after the one does after the other. This is imported before
anything else, so it imports next to nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: The signals, with the default handler of each and what is said of a program that they ended.
SIGNALS = {
    signal.SIGINT: (signal.default_int_handler, "interrupted"),
    signal.SIGTERM: (signal.SIG_DFL, "terminated"),
}
#: The one that came last.
_came = signal.SIGINT


def end_at_once() -> None:
    """From now on these signals end the program, unless whoever started it has switched them off."""
    for number, (default, _) in SIGNALS.items():
        if signal.getsignal(number) is default:
            signal.signal(number, _end)
            # Registered first, so called last: then Python no longer calls handlers, and the exit code would be lost.
            atexit.register(signal.signal, number, signal.SIG_IGN)
    sys.unraisablehook = _unraisable


def exit_code() -> int:
    """That of a program that was interrupted: 130 after Ctrl-C, 143 after ``kill``."""
    return 128 + _came


def word() -> str:
    """What became of the program: ``interrupted`` or ``terminated``."""
    return SIGNALS[_came][1]


class Raised:
    """Within the block, the first signal is a `KeyboardInterrupt`; the second ends a program that has `end_at_once`."""

    def __enter__(self) -> None:
        self.active = [number for number in SIGNALS if signal.getsignal(number) is _end]
        _handle(self.active, _first)

    def __exit__(self, *_: object) -> None:
        _handle(self.active, _end)


def _handle(numbers: list[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _first(number: int, frame: FrameType | None) -> None:
    global _came  # a handler has nowhere else to say it
    _came = signal.Signals(number)
    _handle([each for each in SIGNALS if signal.getsignal(each) is _first], _end)
    raise KeyboardInterrupt


def _end(number: int | None = None, frame: FrameType | None = None) -> None:
    """End without cleaning up: finished work is on disk, and other processes end with this one."""
    code, said = (exit_code(), word()) if number is None else (128 + number, SIGNALS[signal.Signals(number)][1])
    try:
        os.write(2, f"error: {said}\n".encode())
    finally:
        os._exit(code)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops an interruption that meets it in a callback; it would print a traceback and go on."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(unraisable)
