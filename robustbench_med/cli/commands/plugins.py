"""``rbmed plugins``: which plugins loaded, and which failed to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from robustbench_med.cli import console
from robustbench_med.cli.app import SETUP, app
from robustbench_med.cli.options import AsJson, registry
from robustbench_med.interfaces.plural import plural


@app.command(rich_help_panel=SETUP)
def plugins(as_json: AsJson = False) -> None:
    """Show which plugins loaded and which are broken, and why."""
    found = registry()
    if as_json:
        loaded = [asdict(plugin) for plugin in found.plugins]
        console.emit_json({"loaded": loaded, "broken": [asdict(failure) for failure in found.failures]})
        return
    table = console.table("distribution", "version", "plugin", "offers")
    for plugin in found.plugins:
        counts = Counter(
            entry.spec.kind
            for entry in found.entries()
            if (entry.distribution, entry.plugin) == (plugin.distribution, plugin.name)
        )
        offers = ", ".join(plural(n, kind) for kind, n in counts.items())
        console.row(table, plugin.distribution, plugin.version, plugin.name, offers.replace("strategys", "strategies"))
    console.out.print(table if found.plugins else "no plugin is installed")
    if found.failures:
        broken = console.table("distribution", "plugin", "stage", "error", title="Broken")
        for item in found.failures:
            console.row(broken, item.distribution, item.plugin, item.stage, item.error, style="red")
        console.out.print(broken)
