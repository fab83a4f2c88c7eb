"""Errors in plugins, shown to their authors: the lines in the plugin's code, or with ``--debug`` all lines."""

from __future__ import annotations

import traceback

import click

from robustbench_med.cli import console
from robustbench_med.cli.options import REGISTRY
from robustbench_med.errors import described
from robustbench_med.plugins.tracebacks import PluginTraceback, plugin_traceback

#: Where the context of a command keeps whether ``--debug`` was given.
DEBUG = "robustbench_med.debug"


def show_plugin_traceback(culprit: PluginTraceback) -> None:
    """Print which component the error is in, and where."""
    _print(f"in {culprit.component}:")
    if _debug():
        _print(culprit.full)
    else:
        _print(culprit.own)
        _print("(the plugin's own lines; rbmed --debug ... shows all)")


def explained(error: BaseException) -> bool:
    """Show an unexpected error if a plugin raised it; returns whether one did."""
    context = click.get_current_context(silent=True)
    registry = context.meta.get(REGISTRY) if context else None
    culprit = plugin_traceback(error, registry) if registry else None
    if culprit is None:
        return False
    console.error(described(error))
    show_plugin_traceback(culprit)
    return True


def show_all(error: BaseException) -> None:
    """Print the traceback of an error if ``--debug`` was given."""
    if _debug():
        _print("".join(traceback.format_exception(error)).rstrip("\n"))


def _debug() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(DEBUG))


def _print(text: str) -> None:
    console.err.print(text, markup=False, soft_wrap=True)
