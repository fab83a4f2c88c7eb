"""``rbmed push``: a trained defense on the Hugging Face hub, with a model card made from its records."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.app import RESULTS, app
from robustbench_med.cli.console import plain
from robustbench_med.errors import BadParameter, DataError
from robustbench_med.files.atomic import check_writable
from robustbench_med.files.hub_name import HubName, hub_name
from robustbench_med.interfaces.plural import plural

if TYPE_CHECKING:
    from robustbench_med.leaderboard.sources.image_results import ImageResults
    from robustbench_med.records.record import Record

#: Where `rbmed run` writes.
RESULTS_FOLDER = Path("results")
BRANCH = "main"


@app.command(rich_help_panel=RESULTS)
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DEFENSE_FOLDER", help="Folder of weights, as `rbmed train` prints.")
    ],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Name on the hub.")],
    records: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Folder of results or file of records of these weights; may be repeated. [results, else the published "
            "leaderboard]",
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option("--license", help="Licence of the weights, as the hub names it, such as apache-2.0.")
    ] = "unknown",
    private: Annotated[bool, typer.Option("--private", help="Only you and your organisation can see it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the folder, and send nothing.")] = False,
    target: Annotated[Path | None, typer.Option("--out", help="Folder of --dry-run. [push/OWNER--NAME]")] = None,
) -> None:
    """Upload a trained defense to the Hugging Face hub: safetensors, manifest, and a model card from its records.

    Who you are is known to the hub from `hf auth login` or the environment variable HF_TOKEN. Use it anywhere with
    --weights hf:OWNER/NAME@REVISION.
    """
    wanted = hub_name(name)
    if wanted.revision:
        raise BadParameter(f"{name}: a push makes a revision of its own; leave @{wanted.revision} out")
    if target is not None and not dry_run:
        raise BadParameter(f"--out {target} is the folder of --dry-run; add --dry-run, or leave it out")
    there = target or Path("push") / wanted.repo.replace("/", "--")
    if dry_run:
        check_writable(there)
    from robustbench_med.defenses.artifact import Artifact

    artifact = Artifact(folder)
    from robustbench_med.defenses import hub
    from robustbench_med.leaderboard.render.model_card import Weights, model_card

    found, outcomes, where = measured(records, artifact.digest)
    branch = HubName(wanted.repo, BRANCH)
    card = model_card(Weights(branch, licence, artifact.digest, artifact.manifest), found, outcomes)
    plain(f"{plural(len(found), 'record')} of these weights {where}")
    if dry_run:
        made = hub.write(folder, there, card)
        files = plural(len(made.manifest["files"]), "file")
        plain(f"{there}: README.md, manifest.json and {files} of weights; nothing was sent")
        return
    with tempfile.TemporaryDirectory() as place:
        hub.write(folder, Path(place) / "made", card)
        pushed = hub.push(Path(place) / "made", wanted, private)
    plain(f"pushed {folder}: --weights {pushed}")


def measured(places: list[Path] | None, digest: str) -> tuple[list[Record], dict[str, ImageResults], str]:
    """Measured records of weights, the results of their images, and where they were found.

    Raises:
        DataError: results were named, and none is of these weights.
    """
    from robustbench_med.files.checkout import published
    from robustbench_med.leaderboard.sources.folder import read_sources

    own: list[Record] = []
    outcomes: dict[str, ImageResults] = {}
    named = places or ([RESULTS_FOLDER] if (RESULTS_FOLDER / "records.jsonl").is_file() else [])
    for place in named:
        some, theirs = _of(place, digest)
        own += some
        outcomes |= theirs
    if own:
        return own, outcomes, f"in {', '.join(map(str, named))}"
    if places:
        raise DataError(
            f"--records {places[0]}: no measured record is of these weights, whose digest is {digest}; measure them: "
            "rbmed run --weights FOLDER"
        )
    if (root := published("leaderboard")) is None:
        return [], {}, "are known; measure them with `rbmed run --weights`"
    sources = read_sources(root)
    own = [each for each in sources.records if each.defense.weights.digest == digest and each.status == "ok"]
    return own, sources.outcomes, "in the published leaderboard"


def _of(place: Path, digest: str) -> tuple[list[Record], dict[str, ImageResults]]:
    """Measured records of weights in a folder of results, and the results of their images."""
    from robustbench_med.leaderboard.sources.consistency import outcomes_of
    from robustbench_med.records.folder import open_results, samples_of

    own = [each for each in open_results(place) if each.status == "ok" and each.defense.weights.digest == digest]
    return own, outcomes_of(own, samples_of(place))
