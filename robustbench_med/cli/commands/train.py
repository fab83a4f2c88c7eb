"""``rbmed train``: train every part of a defense."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_med.cli import early_checks
from robustbench_med.cli.app import EVALUATION, app
from robustbench_med.cli.completion import component
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import PluginFiles, registry, takes
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.cli.resuming import resumable
from robustbench_med.errors import BadParameter
from robustbench_med.files.atomic import check_writable
from robustbench_med.grid.config import build
from robustbench_med.grid.data_options import with_data_options

#: Names of parts; where a wrapper holds several, the next is ``purifier-2``.
PARTS = re.compile(r"classifier|(detector|purifier)(-\d+)?")
#: Options that mean the same in a run.
SHARED = (
    *("dataset", "model", "strategy", "adversarial", "malicious", "engine"),
    *("partition", "unseen_site", "device", "data_root", "test_folder", "download"),
)


@app.command(rich_help_panel=EVALUATION)
@takes(*SHARED, single=("dataset", "model", "strategy"))
def train(
    options: dict[str, Any],
    defense: Annotated[
        str, typer.Argument(autocompletion=component("defense"), help="Defense to train: NAME or NAME:key=value,...")
    ] = "medfedpure",
    only: Annotated[
        list[str] | None, typer.Option(help="Train just this part: classifier, detector or purifier. May be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    target: Annotated[
        Path | None, typer.Option("--out", help="Folder for the weights; by default where `rbmed run` finds them.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Train classifier, detector and purifier of a defense; an interrupted training resumes when called again."""
    known = registry(plugin)
    folder, download = options.pop("test_folder"), bool(options.pop("download"))
    given = {key: value for key, value in options.items() if value is not None}
    if folder or download:
        asked = given.get("dataset", "brainsim")
        given["dataset"] = str(with_data_options(asked, folder, download, given.get("data_root")))
    early_checks.check(build({**given, "defense": defense, "baseline": ""}), known)
    if wrong := [each for each in only or () if not PARTS.fullmatch(each)]:
        raise BadParameter(f"--only {wrong[0]}: no such part; valid: classifier, detector, purifier")
    if target is not None:
        check_writable(target)
    from robustbench_med.api import train_defense

    with resumable(lambda: "what is complete is kept"):
        artifact = train_defense(
            defense, **given, only=only or (), seed=seed, out=target, registry=known, progress=RichProgress()
        )
    name = f"{defense} on {given.get('dataset', 'brainsim')}"
    if artifact is None:
        plain(f"trained {', '.join(only or ())} of {name}")
        return
    plain(f"trained {name}: {artifact.folder}")
    for part, facts in artifact.manifest["parts"].items():
        plain(f"  {part:<12} {facts['seconds']:8.1f} s")
    pictures = sorted(file.name for file in (artifact.folder / "pictures").glob("*.png"))
    plain(f"  pictures/    {', '.join(pictures)}")
