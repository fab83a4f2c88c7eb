"""``rbmed list``: the components of all plugins, read from their specs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer

from robustbench_med.cli import console
from robustbench_med.cli.app import SETUP, app
from robustbench_med.cli.completion import kinds
from robustbench_med.cli.options import AsJson, registry
from robustbench_med.plugins.entries import RegistryEntry
from robustbench_med.plugins.registry import HOOKS, singular
from robustbench_med.plugins.specs import AttackSpec, DatasetSpec, DefenseSpec, Spec

PLURALS = {hook.removeprefix("rbmed_"): kind for kind, hook in HOOKS.items()}
Kind = Annotated[
    str | None, typer.Argument(autocompletion=kinds, metavar="[KIND]", help=f"One of {', '.join(HOOKS)}; default: all.")
]


@app.command("list", rich_help_panel=SETUP)
def list_(kind: Kind = None, as_json: AsJson = False) -> None:
    """List attacks, detectors, purifiers, strategies, datasets, models, defenses, metrics and reports."""
    found = registry()
    entries = found.entries(singular(kind) if kind else None)
    if as_json:
        console.emit_json([describe(entry) for entry in entries])
    elif not entries:
        console.out.print("no installed plugin offers a component of this kind")
    else:
        _print(entries)
    if found.failures:
        console.warn(f"plugins that failed to load: {len(found.failures)}; see 'rbmed plugins'")


def describe(entry: RegistryEntry) -> dict[str, Any]:
    """An entry as JSON types."""
    origin = {"distribution": entry.distribution, "version": entry.version, "plugin": entry.plugin}
    return {"kind": entry.spec.kind, "qualified": entry.qualified, **asdict(entry.spec), **origin}


def traits(spec: Spec) -> str:
    """Properties that matter for a choice, besides the summary."""
    match spec:
        case AttackSpec():
            return f"{', '.join(spec.norms)}; sees {'nothing' if spec.access == 'none' else spec.access}"
        case DatasetSpec():
            return "; ".join(filter(None, ["synthetic" * spec.synthetic, "needs your images" * spec.needs_root]))
        case DefenseSpec():
            return "weights included" if spec.weights else "to be trained"
    return ""


def _print(entries: list[RegistryEntry]) -> None:
    times = Counter((entry.spec.kind, entry.spec.name) for entry in entries)
    for plural, kind in PLURALS.items():
        of_kind = [entry for entry in entries if entry.spec.kind == kind]
        if not of_kind:
            continue
        described = any(traits(entry.spec) for entry in of_kind)
        made = console.table(
            "name", "summary", *["traits"] * described, "from", title=plural.capitalize(), keep=("summary",)
        )
        for entry in of_kind:
            name = entry.spec.name if times[kind, entry.spec.name] == 1 else entry.qualified
            origin = f"{entry.distribution} {entry.version}"
            console.row(made, name, entry.spec.summary, *[traits(entry.spec)] * described, origin)
        console.out.print(made, end="\n\n" if times.total() > len(of_kind) else "\n")
