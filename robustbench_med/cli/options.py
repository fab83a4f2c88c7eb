"""Options that several commands share, made from the fields of `robustbench_med.grid.config.RunConfig`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
import typer

from robustbench_med.cli import completion
from robustbench_med.errors import BadParameter
from robustbench_med.files.hub_name import on_hub
from robustbench_med.grid.config import OPTIONS, RunConfig
from robustbench_med.grid.options import OUTPUT
from robustbench_med.plugins.references import format_eps
from robustbench_med.plugins.registry import Registry

T = TypeVar("T", bound=str)
#: Where the context of a command keeps the registry, for errors that come later.
REGISTRY = "robustbench_med.plugins.registry"


def help_of(key: str, default: str | None = None) -> str:
    """The description of an option of a run, with its default: ``Seeds. [0]``.

    Args:
        key: of the option.
        default: what a command does that has another default.
    """
    option = OPTIONS[key]
    shown = default or option.metadata["empty"]
    if not shown and option.default not in (None, (), False):
        value: Any = option.default[0] if isinstance(option.default, tuple) else option.default
        shown = format_eps(value) if key == "eps" else key.replace("_", "-") if value is True else str(value)
    return f"{option.metadata['description']} [{shown}]" if shown else option.metadata["description"]


Config = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE|NAME]", help="TOML file with the same keys as the options, or a name in configs/."),
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", "-p", metavar="FILE", help="Load an unpackaged plugin file; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress, only results and errors.", rich_help_panel=OUTPUT)
]
DataRoot = Annotated[Path | None, typer.Option(help=help_of("data_root"))]
RecordDevice = Annotated[str | None, typer.Option(help=help_of("device", "the record's, or cpu"))]
RecordWeights = Annotated[
    Path | None, typer.Option(help="Folder of the weights, or hf:OWNER/NAME@REVISION. [those of the record]")
]
Cells = Annotated[list[str] | None, typer.Option(help="Verify the cell whose id begins with this. May be repeated.")]
Sample = Annotated[int | None, typer.Option(min=1, help="Verify this many cells, chosen at random. [all]")]
SampleSeed = Annotated[int, typer.Option(help="Seed of this choice.")]
Results = Annotated[list[Path], typer.Argument(help="Folders of results, or files of records.")]


def registry(files: list[Path] | None = None) -> Registry:
    """The registry, with the plugin files given before the command and ``files``, those given after it."""
    ctx = click.get_current_context(silent=True)
    found = Registry(files=[*((ctx and ctx.find_root().obj) or ()), *(files or ())])
    if ctx is not None:
        ctx.meta[REGISTRY] = found
    return found


def downloaded(weights: Path | None) -> Path | None:
    """The folder of weights that were named, downloaded if they are on the hub.

    Raises:
        UsageError: the hub does not give them.
    """
    if weights is None or not on_hub(weights):
        return weights
    from robustbench_med.defenses.hub import local

    return local(weights)


def takes(*keys: str, single: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command options of a run in place of its parameter ``options``, which gets them as one dict.

    Args:
        keys: of the options; by default all, in the panels of their groups.
        single: those that have one value at most, and several in a run.
    """
    hints = get_type_hints(RunConfig, include_extras=True)
    grouped = [key for key, option in OPTIONS.items() if option.metadata["group"]]
    shared = {key: _parameter(key, hints[key], key in single, panel=not keys) for key in keys or grouped}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_options(**given: Any) -> Any:
            return command(options={key: given.pop(key) for key in shared}, **given)

        own = inspect.signature(command, eval_str=True).parameters.values()
        lists = [list(shared.values()) if each.name == "options" else [each] for each in own]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for some in lists for each in some]
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate


def _parameter(key: str, hint: Any, single: bool, panel: bool) -> inspect.Parameter:
    """An option of a run as a parameter of a command; None where it is not given."""
    facts = OPTIONS[key].metadata
    value, many = _value_type(hint)
    many = many and not single
    flag = f"--{key.replace('_', '-')}"
    names = {int: "N", float: "SECONDS" if key == "time_limit" else "NUMBER", Path: "PATH"}
    metavar = names.get(value, "NAME" if facts["kind"] else "TEXT") + "..." * many
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    completed = completion.choice(plain) if get_origin(plain) is Literal else None
    info = typer.Option(
        f"{flag}/--{facts['off']}" if facts["off"] else flag,
        help=help_of(key),
        rich_help_panel=facts["group"] if panel else None,
        metavar=None if value is bool else metavar,
        autocompletion=completion.component(facts["kind"]) if facts["kind"] else completed,
    )
    annotation = Annotated[(list[value] if many else value) | None, info]  # type: ignore[valid-type]
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _value_type(hint: Any) -> tuple[type, bool]:
    """The type of one value on the command line, and whether there may be several."""
    if get_origin(hint) is Annotated:
        return _value_type(get_args(hint)[0])
    if get_origin(hint) is tuple:  # fractions, components and threats are text
        return (int if _value_type(get_args(hint)[0])[0] is int else str), True
    union = get_origin(hint) in (Union, UnionType)
    types = [_value_type(each)[0] for each in get_args(hint) if each is not NoneType] if union else [hint]
    return next((each for each in (str, bool, int, float, Path) if each in types), str), False


def format_of(asked: T | None, target: Path | None, endings: Mapping[str, T], default: T) -> T:
    """The format that was asked for, by name or by the ending of the file.

    Args:
        asked: its name, if it was given.
        target: the file to write; None where none was named.
        endings: formats by the ending of a file.
        default: without either.

    Raises:
        BadParameter: the file's ending says no format and none is named, or it says another one.
    """
    if target is None:
        return asked or default
    ending = endings.get(target.suffix.lower())
    if asked is None and ending is None:
        raise BadParameter(f"--out {target}: the ending says no format; valid: {', '.join(endings)}, or add --format")
    if asked is not None and ending not in (None, asked):
        raise BadParameter(f"--out {target} ends as {ending}, and --format says {asked}; change one of them")
    return asked or ending or default
