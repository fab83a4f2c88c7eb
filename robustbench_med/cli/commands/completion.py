"""``rbmed completion``: names of components and their parameters, completed by the shell."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Callable, Iterator
from typing import Annotated

import click
import typer
from click.shell_completion import get_completion_class

from robustbench_med.errors import UsageError
from robustbench_med.plugins.registry import HOOKS, Registry

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_RBMED_COMPLETE"
Complete = Callable[[click.Context, str], list[str]]


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SHELLS)}.")],
) -> None:
    """Print what a shell needs to complete rbmed; for bash: eval "$(rbmed completion bash)"."""
    if shell not in SHELLS:
        raise UsageError(f"unknown shell {shell!r}; valid: {', '.join(SHELLS)}")
    made = get_completion_class(shell)
    assert made is not None
    script = made(click.Command("rbmed"), {}, "rbmed", VARIABLE).source()
    # typer reads its variable the other way round.
    script = script.replace(f"{shell}_complete", f"complete_{shell}")
    if shell == "bash":  # or attack names end where their parameters begin
        script = 'COMP_WORDBREAKS="${COMP_WORDBREAKS//[:=]/}"\n' + script
    print(script)


def component(kind: str) -> Complete:
    """Completes a reference: a name, then its parameters, then values where they are few."""

    def complete(ctx: click.Context, incomplete: str) -> list[str]:
        return _quietly(lambda: _reference(_registry(ctx), kind, incomplete))

    return complete


def anything(ctx: click.Context, incomplete: str) -> list[str]:
    """Completes ``kind/name``."""

    def options() -> Iterator[str]:
        kind, slash, rest = incomplete.partition("/")
        if slash and kind in HOOKS:
            yield from (f"{kind}/{text}" for text in _reference(_registry(ctx), kind, rest))
        else:
            yield from (f"{known}/" for known in HOOKS)

    return [text for text in _quietly(options) if text.startswith(incomplete)]


def kinds(incomplete: str) -> list[str]:
    """Completes a kind."""
    return [kind for kind in HOOKS if kind.startswith(incomplete)]


def _reference(registry: Registry, kind: str, incomplete: str) -> Iterator[str]:
    name, colon, rest = incomplete.partition(":")
    if not colon:
        yield from sorted({e.spec.name for e in registry.entries(kind) if e.spec.name.startswith(incomplete)})
        return
    done, comma, last = rest.rpartition(",")
    before = f"{name}:{done}{comma}"
    fields = registry.load(kind, name).Params.model_fields
    key, equals, value = last.partition("=")
    if not equals:
        given = {item.partition("=")[0] for item in done.split(",")}
        yield from (f"{before}{field}=" for field in fields if field.startswith(last) and field not in given)
    elif key in fields:
        yield from (f"{before}{key}={each}" for each in _values(fields[key].annotation) if each.startswith(value))


def _values(annotation: object) -> list[str]:
    """The values of a choice."""
    if annotation is bool:
        return ["true", "false"]
    return (
        [str(value) for value in typing.get_args(annotation)] if typing.get_origin(annotation) is typing.Literal else []
    )


def _registry(ctx: click.Context) -> Registry:
    files = [*(ctx.find_root().params.get("plugin") or ()), *(ctx.params.get("plugin") or ())]
    return Registry(files=files)


def _quietly(options: Callable[[], Iterator[str]]) -> list[str]:
    """What there is to offer; a line that cannot be completed must not fill the screen with its reason."""
    found: list[str] = []
    with contextlib.suppress(Exception):
        found += options()
    return found
