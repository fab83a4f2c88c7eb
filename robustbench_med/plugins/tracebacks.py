"""Whose code an error comes from: the plugin, and its author's own lines of the traceback."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustbench_med.plugins.registry import Entry, Registry


@dataclass(frozen=True)
class Blame:
    """An error in a plugin, told to its author.

    Attributes:
        who: the component and its distribution.
        own: the lines of the traceback that are the plugin's, and the error.
        full: the whole traceback.
    """

    who: str
    own: str
    full: str

    def __str__(self) -> str:
        return f"{self.who}\n{self.own}"


def blame(error: BaseException, registry: Registry) -> Blame | None:
    """The plugin whose code was nearest to the error; None where no plugin took part.

    A plugin that others call is nearer than they are: a purifier that breaks under an attack is the purifier's error.
    """
    roots: dict[str, list[Entry]] = {}
    for entry in registry.entries():
        roots.setdefault(entry.spec.target.partition(".")[0].partition(":")[0], []).append(entry)
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    theirs = [root for frame, _ in frames if (root := _root(frame)) in roots]
    if not theirs:
        return None
    culprit = theirs[-1]
    own = [(frame, line) for frame, line in frames if _root(frame) == culprit]
    stack = traceback.StackSummary.extract(iter(own))
    message = "".join(traceback.format_exception_only(error))
    return Blame(
        who=_who([frame for frame, _ in own], roots[culprit]),
        own="".join(stack.format()) + message.rstrip("\n"),
        full="".join(traceback.format_exception(error)).rstrip("\n"),
    )


def _root(frame: FrameType) -> str:
    """The package that a frame's code belongs to."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _who(frames: list[FrameType], entries: list[Entry]) -> str:
    """The component whose method ran last, or else the distribution."""
    targets = {entry.spec.target: entry for entry in entries}
    for frame in reversed(frames):
        # A component may inherit the method that failed.
        for cls in type(frame.f_locals.get("self")).__mro__:
            if (entry := targets.get(f"{cls.__module__}:{cls.__qualname__}")) is not None:
                return str(entry)
    last = frames[-1].f_code
    return f"{entries[0].distribution} {entries[0].version} ({Path(last.co_filename).name}, {last.co_name})"
