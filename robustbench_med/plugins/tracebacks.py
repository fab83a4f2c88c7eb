"""The plugin that an error comes from, and the lines of the traceback in its code."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustbench_med.plugins.entries import RegistryEntry
    from robustbench_med.plugins.registry import Registry


@dataclass(frozen=True)
class PluginTraceback:
    """An error in a plugin, for its author.

    Attributes:
        component: the component and its distribution.
        own: the lines of the traceback in the plugin's code, and the error.
        full: the whole traceback.
    """

    component: str
    own: str
    full: str

    def __str__(self) -> str:
        return f"{self.component}\n{self.own}"


def plugin_traceback(error: BaseException, registry: Registry) -> PluginTraceback | None:
    """The plugin whose code is innermost in the traceback; None where no plugin's code is in it.

    Where an attack calls a purifier that fails, the error is the purifier's.
    """
    roots: dict[str, list[RegistryEntry]] = {}
    for entry in registry.entries():
        roots.setdefault(entry.spec.target.partition(".")[0].partition(":")[0], []).append(entry)
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    theirs = [root for frame, _ in frames if (root := _root(frame)) in roots]
    if not theirs:
        return None
    plugin = theirs[-1]
    own = [(frame, line) for frame, line in frames if _root(frame) == plugin]
    stack = traceback.StackSummary.extract(iter(own))
    message = "".join(traceback.format_exception_only(error))
    return PluginTraceback(
        component=_component([frame for frame, _ in own], roots[plugin]),
        own="".join(stack.format()) + message.rstrip("\n"),
        full="".join(traceback.format_exception(error)).rstrip("\n"),
    )


def _root(frame: FrameType) -> str:
    """The package that a frame's code belongs to."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _component(frames: list[FrameType], entries: list[RegistryEntry]) -> str:
    """The component whose method is innermost, else the distribution."""
    targets = {entry.spec.target: entry for entry in entries}
    for frame in reversed(frames):
        # A component may inherit the method that failed.
        for cls in type(frame.f_locals.get("self")).__mro__:
            if (entry := targets.get(f"{cls.__module__}:{cls.__qualname__}")) is not None:
                return str(entry)
    last = frames[-1].f_code
    return f"{entries[0].distribution} {entries[0].version} ({Path(last.co_filename).name}, {last.co_name})"
