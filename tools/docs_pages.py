"""Pages of the site that are generated: from the registry, from docstrings and from --help.

mkdocs calls the functions at the end; nothing is written into docs/.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import click
from typer.main import get_command

import robustbench_med
from robustbench_med.cli.commands.list_ import PLURALS, traits
from robustbench_med.cli.commands.show import parameters
from robustbench_med.cli.main import app
from robustbench_med.cli.options import help_of as help_of_key
from robustbench_med.grid.config import OPTIONS
from robustbench_med.plugins import hookspecs
from robustbench_med.plugins.entries import load_target
from robustbench_med.plugins.registry import HOOKS, Registry
from robustbench_med.testing import checks_of


def components() -> str:
    """Every component of every plugin that is installed."""
    registry = Registry()
    if registry.failures:
        raise RuntimeError("; ".join(map(str, registry.failures)))
    lines = [
        "# Components",
        "",
        "The components of the installed plugins, as `rbmed list` and `rbmed show` print them.",
        "",
    ]
    for plural, kind in PLURALS.items():
        lines += [f"## {plural.capitalize()}", ""]
        for entry in registry.entries(kind):
            spec = entry.spec
            facts = [f"from {entry.distribution}", traits(spec), spec.reference, f"revision {spec.revision}"]
            lines += [
                f"### {kind}/{spec.name}",
                "",
                f"{_cell(spec.summary)}",
                "",
                f"*{'; '.join(filter(None, facts))}*",
                "",
            ]
            if rows := parameters(load_target(entry).Params):
                lines += ["| Parameter | Default | Valid | |", "|---|---|---|---|"]
                for row in rows:
                    default = "required" if row["required"] else f"`{row['default']}`"
                    lines.append(
                        f"| `{row['name']}` | {_cell(default)} | {_cell(row['valid'])} | {_cell(row['description'])} |"
                    )
                lines.append("")
    return "\n".join(lines)


def hooks() -> str:
    """The docstring of every hook, with its example."""
    lines = ["# Hooks", "", "One for each kind. Every example is a complete plugin, and the tests run it.", ""]
    for kind, hook in HOOKS.items():
        text, _, example = _doc(getattr(hookspecs, hook)).partition("Example::")
        lines += [
            f"## {hook}",
            "",
            f"Kind `{kind}`. {_prose(text)}",
            "",
            "```python",
            inspect.cleandoc(example),
            "```",
            "",
        ]
    return "\n".join(lines)


def python() -> str:
    """The public names of the package, with signatures; mkdocstrings fills in what stands after ``:::``."""
    lines = ["# Python", "", "The public names of `robustbench_med`; everything else may change at any time.", ""]
    for name in sorted(robustbench_med.__all__):
        value = getattr(robustbench_med, name)
        home = getattr(value, "__module__", "") or ""
        if not callable(value) or not home.startswith("robustbench_med"):
            lines += [f"## {name}", "", f"`{value!r}`" if not callable(value) else f"That of `{home}`.", ""]
            continue
        lines += [f"::: {home}.{value.__qualname__}", ""]
        if value is robustbench_med.evaluate:
            lines += ["| Option | |", "|---|---|", *(f"| `{key}` | {_cell(help_of_key(key))} |" for key in OPTIONS), ""]
    return "\n".join(lines)


def checks() -> str:
    """What `rbmed check` tests."""
    lines = ["# Checks", "", "What `rbmed check` and `robustbench_med.testing` test, for each kind.", ""]
    for kind in HOOKS:
        lines += [f"## {kind}", "", "| Check | What must be true |", "|---|---|"]
        lines += [f"| `{check.name}` | {_cell(check.about)} |" for check in checks_of(kind)]
        lines.append("")
    return "\n".join(lines)


def commands() -> str:
    """Every command and option."""
    lines = ["# Commands", "", "Also printed by `rbmed COMMAND --help`.", ""]
    root = get_command(app)
    lines += _options("rbmed", root)
    for name, command in every_command(root, "rbmed"):
        lines += _options(name, command)
    return "\n".join(lines)


def every_command(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every command by its full name, as the command line finds it."""
    for name in sorted(group.commands):
        command = group.get_command(click.Context(group), name)
        yield f"{prefix} {name}", command
        if hasattr(command, "commands"):
            yield from every_command(command, f"{prefix} {name}")


def _options(name: str, command: Any) -> list[str]:
    lines = [f"## {name}", "", _prose(command.help or ""), ""]
    rows = []
    for option in command.params:
        if getattr(option, "hidden", False):
            continue
        shown = ", ".join(f"`{text}`" for text in (*option.opts, *option.secondary_opts) if text.startswith("-"))
        shown = shown or f"`{option.make_metavar(click.Context(command))}`"
        rows.append(f"| {_cell(shown)} | {_cell(help_of(command, option))} |")
    return [*lines, "| Option | |", "|---|---|", *rows, ""] if rows else lines


def help_of(command: Any, option: Any) -> str:
    """What the help says of an option or an argument.

    Raises:
        RuntimeError: it has no help.
    """
    if not (text := getattr(option, "help", None)):
        raise RuntimeError(f"{command.name}: {option.name} has no help")
    return str(text)


def _doc(value: Any) -> str:
    text = inspect.getdoc(value)
    if not text:
        raise RuntimeError(f"{value} has no docstring")
    return text


def _prose(text: str) -> str:
    return re.sub(r"``([^`]+)``", r"`\1`", inspect.cleandoc(text)).replace("\b", "")


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


PAGES = {"components": components, "hooks": hooks, "python": python, "checks": checks, "commands": commands}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Files of the repository that are not pages are named, not linked."""
    names = "README|CONTRIBUTING|NOTICE|leaderboard|configs|changelog|plugins|tools"
    up = re.escape("../" * (1 + page.file.src_uri.count("/")))
    return re.sub(rf"\[([^\]]+)\]\({up}((?:{names})[^)]*)\)", r"\1 (`\2`)", markdown)
