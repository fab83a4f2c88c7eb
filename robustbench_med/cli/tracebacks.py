"""Errors in plugins as their authors want to see them: their own lines, or with ``--debug`` all."""

from __future__ import annotations

import traceback

import click

from robustbench_med.cli import console
from robustbench_med.cli.commands.plugins import KEPT
from robustbench_med.plugins.tracebacks import PluginTraceback, plugin_traceback

#: Where a command's context keeps whether ``--debug`` was given.
DEBUG = "robustbench_med.debug"


def show_plugin_traceback(culprit: PluginTraceback) -> None:
    """Whose error it is, and where."""
    _print(f"in {culprit.component}:")
    if _asked_for_all():
        _print(culprit.full)
    else:
        _print(culprit.own)
        _print("(the plugin's own lines; rbmed --debug ... shows all)")


def explained(error: Exception) -> bool:
    """Show an unforeseen error if it is a plugin's; one of ours keeps its traceback."""
    context = click.get_current_context(silent=True)
    registry = context.meta.get(KEPT) if context else None
    culprit = plugin_traceback(error, registry) if registry else None
    if culprit is None:
        return False
    console.error(f"{type(error).__name__}: {error}")
    show_plugin_traceback(culprit)
    return True


def show_all(error: BaseException) -> None:
    """The traceback behind a line, where ``--debug`` asks for it."""
    if _asked_for_all():
        _print("".join(traceback.format_exception(error)).rstrip("\n"))


def _asked_for_all() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(DEBUG))


def _print(text: str) -> None:
    console.err.print(text, markup=False, soft_wrap=True)
