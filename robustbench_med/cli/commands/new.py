"""``rbmed new``: write the template of a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.cli import console
from robustbench_med.cli.app import SETUP, app
from robustbench_med.cli.completion import kinds
from robustbench_med.errors import UsageError
from robustbench_med.plugins.registry import HOOKS, singular

Kind = Annotated[str, typer.Argument(autocompletion=kinds, metavar="KIND", help=f"One of {', '.join(HOOKS)}.")]
Name = Annotated[str, typer.Argument(help="Name of the component, such as my-attack.")]


@app.command(rich_help_panel=SETUP)
def new(
    kind: Kind,
    name: Name,
    package: Annotated[bool, typer.Option("--package", help="Write an installable package.")] = False,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
) -> None:
    """Write a new plugin that works as it is: a single file, or a package."""
    from robustbench_med.files.atomic import check_file, check_writable, new_folder, write_text
    from robustbench_med.plugins.templates import Template

    template = Template(singular(kind), name)
    if out.suffix == ".py" and not out.exists():
        raise UsageError(
            f"--out {out} would be a folder called so; {template.module}.py is written into the folder --out, "
            "the current one without it"
        )
    target = out / (f"rbmed-{name}" if package else f"{template.module}.py")
    (check_writable if package else check_file)(target)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists; choose another name, or another folder with --out")
    if package:
        files = template.package()
        with new_folder(target) as draft:
            for file, text in files.items():
                write_text(draft / file, text)
    else:
        text = template.single_file()
        write_text(target, text)
    console.plain(f"wrote {target}; next:")
    for command in template.commands(str(target), package):
        console.plain(f"  {command}")
