"""Help of a command's arguments."""

from __future__ import annotations

from typing import get_type_hints

import click
from typer.core import TyperGroup


class Helped(TyperGroup):
    """A group whose commands say what their arguments mean.

    typer 0.20, the newest that flwr allows, loses that with click 8.4; the annotations still have it.
    """

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
