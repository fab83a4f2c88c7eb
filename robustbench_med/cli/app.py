"""The command ``rbmed`` without its commands: global options, and every error as one line.

Exit codes: 0 success, 1 a cell failed, a check found problems or a disk is full, 2 bad usage, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, get_type_hints

import click
import typer
from typer.core import TyperGroup

import robustbench_med
from robustbench_med.cli import console, interrupts
from robustbench_med.cli.options import PluginFiles
from robustbench_med.cli.tracebacks import DEBUG, explained, show_all
from robustbench_med.errors import RbmedError, UsageError, described, shown_by
from robustbench_med.files.atomic import FULL

#: Panels of commands in the help.
EVALUATION, RESULTS, LEADERBOARD, SETUP = "Evaluation", "Results", "Leaderboard", "Components and data"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an error in one line and exit with its code; an unexpected error of ours keeps its traceback."""
    try:
        yield
    except RbmedError as error:
        show_all(error)
        console.error(str(error))
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.ClickException as error:
        console.error(error.format_message() + _without_option(error))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        console.error(interrupts.word())
        raise typer.Exit(interrupts.exit_code()) from None
    except click.exceptions.Exit:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            show_all(error)
            where = f" {error.filename}" if error.filename else ""
            console.error(f"cannot write{where}: {error.strerror}; what was complete before is kept")
            raise typer.Exit(1) from None
        if explained(error):
            raise typer.Exit(1) from None
        if isinstance(error, SystemExit):  # commands return; only a plugin ends the program
            console.error(described(error))
            raise typer.Exit(1) from None
        raise


def _without_option(error: click.ClickException) -> str:
    """A hint where an option that does not exist is called like an argument of the command."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return ""
    name = error.option_name.lstrip("-").replace("-", "_")
    for param in error.ctx.command.params:
        if isinstance(param, click.Argument) and param.name == name:
            return f" It is given without an option: {error.ctx.command_path} {param.make_metavar(error.ctx)}"
    return ""


class CommandGroup(TyperGroup):
    """A group whose commands keep the help of their arguments.

    typer 0.20, the newest that flwr allows, loses that with click 8.4; the annotations still have it.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words begin with; one that is a group's, or an option, is told of."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            name = args[0]
            groups = ((key, command) for key, command in self.commands.items() if isinstance(command, click.Group))
            near = [f"{key} {name}" for key, command in groups if name in command.commands]
            near += [f"--{name}"] if name in ("help", "version") else []
            if near:
                meant = " or ".join(f"'{ctx.command_path} {each}'" for each in near)
                raise click.UsageError(f"No such command {name!r}. Did you mean {meant}?", ctx) from error
            raise

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None where there is none."""
        command = super().get_command(ctx, cmd_name)
        if command is None or command.callback is None:
            return command
        for param in command.params:
            if isinstance(param, click.Argument) and getattr(param, "help", None) is None:
                hints = get_type_hints(command.callback, include_extras=True)
                notes = getattr(hints.get(param.name or ""), "__metadata__", ())
                param.help = next((note.help for note in notes if getattr(note, "help", None)), None)
        return command


class _Root(CommandGroup):
    """The root command; the arguments of every other command are read inside its ``invoke``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with one_line_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with interrupts.Raised(), one_line_errors(), shown_by(console.note, console.warn):
            return super().invoke(ctx)


app = typer.Typer(
    name="rbmed",
    cls=_Root,
    no_args_is_help=True,
    suggest_commands=False,  # click suggests already
    add_completion=False,
    rich_markup_mode="markdown",  # as "rich" it would read text in [brackets] as a style
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"robustbench-med {robustbench_med.__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    plugin: PluginFiles = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show whole tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how robust a medical-imaging model and its defense really are."""
    ctx.obj = plugin or []
    ctx.meta[DEBUG] = debug
