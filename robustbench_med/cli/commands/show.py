"""``rbmed show``: one component, its parameters and its origin."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

import typer

from robustbench_med.cli import console
from robustbench_med.cli.app import SETUP, app
from robustbench_med.cli.commands.list_ import describe, traits
from robustbench_med.cli.completion import any_component
from robustbench_med.cli.options import AsJson, registry
from robustbench_med.errors import UsageError
from robustbench_med.plugins.registry import HOOKS, Registry, singular

What = Annotated[
    str,
    typer.Argument(
        autocompletion=any_component, metavar="NAME", help="apgd, attack/apgd, or attack/rbmed-attacks/apgd."
    ),
]


@app.command(rich_help_panel=SETUP)
def show(what: What, as_json: AsJson = False) -> None:
    """Show a component: parameters, reference, origin."""
    found = registry()
    kind, slash, name = what.partition("/")
    kind = singular(kind)
    if not slash:
        kind, name = _kind_of(found, what), what
    entry = found.find(kind, name)
    rows = parameters(found.load(kind, name).Params)
    if as_json:
        console.emit_json({**describe(entry), "params": rows})
        return
    console.out.print(console.heading(f"{kind} {entry.spec.name}", entry.spec.summary))
    facts = {
        "from": f"{entry.distribution} {entry.version} ({entry.plugin})",
        "target": entry.spec.target,
        "name": entry.spec.title,
        "paper": ", ".join(filter(None, [entry.spec.paper, entry.spec.venue])),
        "reference": entry.spec.reference,
        "revision": entry.spec.revision,
        "licence": getattr(entry.spec, "licence", ""),
        "traits": traits(entry.spec),
    }
    console.out.print(console.facts(facts), end="\n\n")
    if not rows:
        console.out.print("no parameters")
        return
    made = console.table("parameter", "default", "valid", "description", keep=("description",))
    for item in rows:
        default = "required" if item["required"] else item["default"]
        console.row(made, item["name"], default, item["valid"], item["description"])
    console.out.print(made)


def parameters(model: Any) -> list[dict[str, Any]]:
    """The parameters of a component, as JSON types."""
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


def _kind_of(registry: Registry, name: str) -> str:
    """The kind of the only component of this name.

    Raises:
        UsageError: there is none, or there are several.
    """
    kinds = [kind for kind in HOOKS if any(entry.spec.name == name for entry in registry.entries(kind))]
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise UsageError(f"{name!r} is the name of several; write {' or '.join(f'{kind}/{name}' for kind in kinds)}")
    every = [f"{entry.spec.kind}/{entry.spec.name}" for entry in registry.entries()]
    short = {each.partition("/")[2]: each for each in every}
    near = [short[each] for each in difflib.get_close_matches(name, short, n=3)]
    hint = f"; did you mean {' or '.join(near)}?" if near else "; rbmed list shows all"
    raise UsageError(f"no component is called {name!r}{hint}")
