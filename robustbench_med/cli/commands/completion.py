"""``rbmed completion``: the script with which a shell completes commands, options and components."""

from __future__ import annotations

from typing import Annotated

import click
import typer
from click.shell_completion import get_completion_class

from robustbench_med.cli.app import SETUP, app
from robustbench_med.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_RBMED_COMPLETE"


@app.command(rich_help_panel=SETUP)
def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SHELLS)}.")],
) -> None:
    """Print what a shell needs to complete rbmed; for bash: eval "$(rbmed completion bash)"."""
    if shell not in SHELLS:
        raise UsageError(f"unknown shell {shell!r}; valid: {', '.join(SHELLS)}")
    shell_completion = get_completion_class(shell)
    assert shell_completion is not None
    script = shell_completion(click.Command("rbmed"), {}, "rbmed", VARIABLE).source()
    # typer expects the two words of the variable's value in the other order.
    script = script.replace(f"{shell}_complete", f"complete_{shell}")
    if shell == "bash":  # otherwise a colon or an equals sign would end the word that is completed
        script = 'COMP_WORDBREAKS="${COMP_WORDBREAKS//[:=]/}"\n' + script
    print(script)
