"""``rbmed show``: one component, its parameters and where it comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from robustbench_med.cli import console
from robustbench_med.cli.commands.completion import anything
from robustbench_med.cli.commands.list_ import describe, traits
from robustbench_med.cli.commands.plugins import AsJson, registry
from robustbench_med.errors import UsageError
from robustbench_med.plugins.registry import HOOKS, Registry

What = Annotated[
    str, typer.Argument(autocompletion=anything, metavar="KIND/NAME", help="attack/apgd, or attack/rbmed-attacks/apgd.")
]


def show(what: What, as_json: AsJson = False) -> None:
    """Show a component: parameters, reference, origin."""
    found = registry()
    kind, slash, name = what.partition("/")
    if not slash:
        raise UsageError(f"{what!r} is not KIND/NAME{_suggestion(found, what)}")
    entry = found.find(kind, name)
    rows = parameters(found.load(kind, name).Params)
    if as_json:
        console.emit_json({**describe(entry), "params": rows})
        return
    console.out.print(console.heading(f"{kind} {entry.spec.name}", entry.spec.summary))
    facts = {
        "from": f"{entry.distribution} {entry.version} ({entry.plugin})",
        "target": entry.spec.target,
        "reference": entry.spec.reference,
        "revision": entry.spec.revision,
        "licence": getattr(entry.spec, "licence", ""),
        "traits": traits(entry.spec),
    }
    console.out.print(console.facts(facts), end="\n\n")
    if not rows:
        console.out.print("no parameters")
        return
    made = console.table("parameter", "default", "valid", "description")
    for item in rows:
        default = "required" if item["required"] else item["default"]
        console.row(made, item["name"], default, item["valid"], item["description"])
    console.out.print(made)


def parameters(model: Any) -> list[dict[str, Any]]:
    """What a component takes, as JSON types."""
    from robustbench_med.plugins.components import valid_values

    return [
        {
            "name": name,
            "default": None if info.is_required() else info.get_default(call_default_factory=True),
            "required": info.is_required(),
            "valid": valid_values(info),
            "description": info.description,
        }
        for name, info in model.model_fields.items()
    ]


def _suggestion(registry: Registry, name: str) -> str:
    """The kinds that know such a name."""
    hits = [f"{kind}/{name}" for kind in HOOKS if any(entry.spec.name == name for entry in registry.entries(kind))]
    return f"; did you mean {' or '.join(hits)}?" if hits else f"; valid kinds: {', '.join(HOOKS)}"
