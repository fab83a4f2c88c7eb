"""``rbmed plugins``: what loaded, and what did not."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import click
import typer

from robustbench_med.cli import console
from robustbench_med.plugins.registry import Registry

PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", "-p", metavar="FILE", help="Load an unpackaged plugin file; may be repeated."),
]
#: Where a command's context keeps the registry, for errors that come later.
KEPT = "robustbench_med.plugins.registry"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def registry(files: list[Path] | None = None) -> Registry:
    """The registry, with the plugin files given before the command and ``files``, those given after it."""
    ctx = click.get_current_context(silent=True)
    found = Registry(files=[*((ctx and ctx.find_root().obj) or ()), *(files or ())])
    if ctx is not None:
        ctx.meta[KEPT] = found
    return found


def plugins(as_json: AsJson = False) -> None:
    """Show which plugins loaded and which are broken, and why."""
    found = registry()
    if as_json:
        console.emit_json({
            "loaded": [asdict(plugin) for plugin in found.plugins],
            "broken": [asdict(broken) for broken in found.failures],
        })  # fmt: skip
        return
    loaded = console.table("distribution", "version", "plugin", "offers")
    for plugin in found.plugins:
        counts = Counter(
            entry.spec.kind
            for entry in found.entries()
            if (entry.distribution, entry.plugin) == (plugin.distribution, plugin.name)
        )
        offers = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items())
        console.row(loaded, plugin.distribution, plugin.version, plugin.name, offers.replace("strategys", "strategies"))
    console.out.print(loaded if found.plugins else "no plugin is installed")
    if found.failures:
        broken = console.table("distribution", "plugin", "stage", "error", title="Broken")
        for item in found.failures:
            console.row(broken, item.distribution, item.plugin, item.stage, item.error, style="red")
        console.out.print(broken)
