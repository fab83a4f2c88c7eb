"""Completion by the shell: names of components, their parameters, and the values of choices."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Callable, Iterator

import click

from robustbench_med.plugins import source_parameters
from robustbench_med.plugins.registry import HOOKS, Registry

Complete = Callable[[click.Context, str], list[str]]


def component(kind: str) -> Complete:
    """Completes a reference: a name, then its parameters, then values where they are few."""

    def complete(ctx: click.Context, incomplete: str) -> list[str]:
        return _without_errors(lambda: _reference(_registry(ctx), kind, incomplete))

    return complete


def choice(annotation: object) -> Complete:
    """Completes the values of a ``Literal``."""

    def complete(ctx: click.Context, incomplete: str) -> list[str]:
        return [value for value in _values(annotation) if value.startswith(incomplete)]

    return complete


def any_component(ctx: click.Context, incomplete: str) -> list[str]:
    """Completes ``kind/name``."""

    def references() -> Iterator[str]:
        kind, slash, rest = incomplete.partition("/")
        if slash and kind in HOOKS:
            yield from (f"{kind}/{text}" for text in _reference(_registry(ctx), kind, rest))
        else:
            yield from (f"{known}/" for known in HOOKS)

    return [text for text in _without_errors(references) if text.startswith(incomplete)]


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
    fields = (source_parameters.params_of(registry.find(kind, name)) or registry.load(kind, name).Params).model_fields
    key, equals, value = last.partition("=")
    if not equals:
        given = {item.partition("=")[0] for item in done.split(",")}
        yield from (f"{before}{field}=" for field in fields if field.startswith(last) and field not in given)
    elif key in fields:
        yield from (f"{before}{key}={each}" for each in _values(fields[key].annotation) if each.startswith(value))


def _values(annotation: object) -> list[str]:
    """The values of a choice; none where the values are not listed by the type."""
    if annotation is bool:
        return ["true", "false"]
    is_choice = typing.get_origin(annotation) is typing.Literal
    return [str(value) for value in typing.get_args(annotation)] if is_choice else []


def _registry(ctx: click.Context) -> Registry:
    files = [*(ctx.find_root().params.get("plugin") or ()), *(ctx.params.get("plugin") or ())]
    return Registry(files=files)


def _without_errors(references: Callable[[], Iterator[str]]) -> list[str]:
    """What can be offered; a line that cannot be completed must not fill the screen with the reason."""
    found: list[str] = []
    with contextlib.suppress(Exception):
        found += references()
    return found
