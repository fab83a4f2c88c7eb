"""The command ``rbmed``: commands, global options, and every error as one line.

Exit codes: 0 all is well, 1 a cell failed or a check found problems, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import click
import typer

import robustbench_med
from robustbench_med.cli import console
from robustbench_med.cli.commands.check import check
from robustbench_med.cli.commands.completion import completion
from robustbench_med.cli.commands.data import data
from robustbench_med.cli.commands.diff import diff
from robustbench_med.cli.commands.export import export
from robustbench_med.cli.commands.leaderboard import leaderboard
from robustbench_med.cli.commands.list_ import list_
from robustbench_med.cli.commands.merge import merge
from robustbench_med.cli.commands.new import new
from robustbench_med.cli.commands.plan import plan
from robustbench_med.cli.commands.plugins import PluginFiles, plugins
from robustbench_med.cli.commands.plugins import registry as registry
from robustbench_med.cli.commands.report import report
from robustbench_med.cli.commands.reproduce import reproduce
from robustbench_med.cli.commands.run import run
from robustbench_med.cli.commands.show import show
from robustbench_med.cli.commands.submit import submit
from robustbench_med.cli.commands.table_ import table
from robustbench_med.cli.commands.train import train
from robustbench_med.cli.commands.verify import verify
from robustbench_med.cli.help import Helped
from robustbench_med.cli.tracebacks import DEBUG, explained, show_all
from robustbench_med.errors import RbmedError, RbmedWarning, UsageError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print what went wrong in one line and exit with the code that says whose fault it was."""
    try:
        yield
    except RbmedError as error:
        show_all(error)
        console.error(str(error))
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.ClickException as error:
        console.error(error.format_message())
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        console.error("interrupted")
        raise typer.Exit(130) from None
    except Exception as error:
        if explained(error):
            raise typer.Exit(1) from None
        raise


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show our own warnings as the command line shows all of them; those of others as Python does."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, RbmedWarning):
            console.warn(str(message))
        else:
            others(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RbmedWarning)
        warnings.showwarning = show
        yield


class _Group(Helped):
    """The root command; the arguments of every other command are read inside its ``invoke``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with one_line_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors(), one_line_warnings():
            return super().invoke(ctx)


app = typer.Typer(
    name="rbmed",
    cls=_Group,
    no_args_is_help=True,
    suggest_commands=False,  # click suggests already
    add_completion=False,
    rich_markup_mode="markdown",  # as "rich" it would take what stands in [brackets] for a style
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


app.command()(run)
app.command()(plan)
app.command("list")(list_)
app.command()(show)
app.command()(plugins)
app.command()(train)
app.command()(table)
app.command()(verify)
app.command()(diff)
app.command()(merge)
app.command()(export)
app.command()(report)
app.command()(submit)
app.command()(reproduce)
app.command()(new)
app.command()(check)
app.command()(completion)
app.add_typer(data, name="data")
app.add_typer(leaderboard, name="leaderboard")


def main() -> None:
    """Entry point of the console script."""
    app()
