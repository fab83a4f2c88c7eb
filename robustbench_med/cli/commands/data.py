"""``rbmed data``: data sets, their cards, and the folders of images that the user provides."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli import console
from robustbench_med.cli.app import SETUP, CommandGroup, app
from robustbench_med.cli.commands.list_ import describe, traits
from robustbench_med.cli.options import AsJson, registry
from robustbench_med.cli.tables import partition as tables
from robustbench_med.errors import DataError, NothingFound, UnknownName, UsageError
from robustbench_med.files.paths import data_root, register_root, unpack
from robustbench_med.files.pictures import check_picture
from robustbench_med.grid.local_checks import check_images
from robustbench_med.grid.names import check_component, check_partition
from robustbench_med.interfaces.plural import plural
from robustbench_med.plugins.entries import RegistryEntry
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.specs import DatasetSpec

if TYPE_CHECKING:
    from robustbench_med.interfaces.dataset import Dataset

data = typer.Typer(cls=CommandGroup, help="Data sets: list, show, partition, check, register.", no_args_is_help=True)
app.add_typer(data, name="data", rich_help_panel=SETUP)

DatasetRoot = Annotated[
    Path | None, typer.Option("--data-root", metavar="DIR", help="The data set's folder, or a parent of it.")
]
TestFolder = Annotated[
    Path | None,
    typer.Option("--test-folder", metavar="DIR", help="Folder of class folders that hold the test images."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch the files of the data set that are missing.")]
Partition = Annotated[
    str,
    typer.Option(
        metavar="PARTITION",
        help="The clients: site (the hospitals), or patients assigned to new clients: iid, "
        "dirichlet:clients=10,alpha=0.4, quantity:alpha=0.4, shards:per_client=2.",
    ),
]


@data.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """List the data sets and where their images are."""
    entries = registry().entries("dataset")
    if as_json:
        console.emit_json([{**describe(entry), "images": _where(entry)} for entry in entries])
        return
    made = console.table("name", "summary", "traits", "licence", "images", keep=("summary",))
    for entry in entries:
        licence = getattr(entry.spec, "licence", "")
        console.row(made, entry.spec.name, entry.spec.summary, traits(entry.spec), licence, _where(entry))
    console.out.print(made if entries else "no installed plugin offers a data set")
    if any(_where(entry) == "not set" for entry in entries):
        console.plain("not set: give --data-root FOLDER, set RBMED_DATA, or run 'rbmed data register NAME FOLDER'")


@data.command("show")
def show_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, with parameters if any: lgg:size=128.")],
    root: DatasetRoot = None,
    test_folder: TestFolder = None,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """Show a data set's card and the sizes of its splits."""
    known = registry()
    check_component(known, "dataset", name)
    opened = _open(known, name, root, test_folder, download)
    from robustbench_med.datasets.partition_report import holdings

    held = holdings(opened)
    card, rows = held.card, tables.rows(held)
    if as_json:
        console.emit_json({**asdict(card), "splits": rows})
        return
    console.out.print(console.heading(card.name, "synthetic images" if card.synthetic else "images of patients"))
    facts = {
        "classes": ", ".join(card.classes),
        "lesion class": "" if card.lesion_class is None else card.classes[card.lesion_class],
        "image": f"{card.channels} x {card.size} x {card.size}",
        "licence": card.licence,
        "citation": card.citation,
        "digest": card.digest,
    }
    console.out.print(console.facts(facts), end="\n\n")
    numbers = ("patients", "images", *card.classes)
    made = console.table("split", "site", *numbers, right=numbers)
    for item in rows:
        console.row(made, item["split"], item["site"], item["patients"], item["images"], *item["classes"].values())
    console.out.print(made)
    for note in card.notes:
        console.plain(f"- {note}")


@data.command("partition")
def partition(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, with parameters if any: lgg:size=128.")],
    partition: Partition = "site",
    root: DatasetRoot = None,
    test_folder: TestFolder = None,
    download: Download = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also draw it: FILE.png or FILE.svg.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which patients, images and labels each client of a federation holds."""
    known = registry()
    check_component(known, "dataset", name)
    check_partition(partition)
    if out is not None:
        check_picture(out)
    opened = _open(known, name, root, test_folder, download)
    from robustbench_med.datasets.clients import partitioned
    from robustbench_med.datasets.partition_report import holdings, picture, summary
    from robustbench_med.interfaces.dataset import SPLITS
    from robustbench_med.plugins.references import parse

    held = holdings(partitioned(opened, parse(partition)))
    card = held.card
    if out is not None:
        picture(held, partition, out)
    if as_json:
        console.emit_json(
            {
                "dataset": card.name,
                "synthetic": card.synthetic,
                "digest": card.digest,
                "partition": partition,
                "skew": {split: held.skew(split) for split in SPLITS},
                "clients": tables.rows(held),
            }
        )
        return
    console.out.print(console.heading(card.name, f"{'synthetic, ' * card.synthetic}partition {partition}"), end="\n\n")
    console.out.print(tables.table(held))
    console.out.print(tables.legend(card.classes))
    console.plain(summary(held))
    if out is not None:
        console.plain(f"picture: {out}")


@data.command("check")
def check(
    what: Annotated[str, typer.Argument(metavar="PATH_OR_NAME", help="A folder, or the name of a data set.")],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Data set whose layout the folder has. [the one that fits]"),
    ] = None,
) -> None:
    """Check every file of a data set and list what is wrong."""
    found = registry()
    path = Path(what).expanduser()
    if path.is_dir() or (path.is_file() and _reads_file(found, dataset, path)):
        name, problems = _check_as(found, dataset, path) if dataset else _check_any(found, path)
    elif dataset or path.exists() or path.is_absolute():
        raise DataError(f"{what} is not a folder{' or a file that a data set reads' * path.exists()}{unpack(path)}")
    else:
        try:
            found.find("dataset", what)  # before anything heavy is imported
        except UnknownName as error:
            raise UnknownName(f"{what} is no folder, and no data set either: {error}") from None
        name, problems = what, _open(found, what, None).check()
    for problem in problems:
        console.plain(problem)
    # Notes are printed, and are no failure.
    problems = [problem for problem in problems if not problem.startswith("note:")]
    if problems:
        console.error(f"{what}, read as {name}: {plural(len(problems), 'problem')}")
        raise typer.Exit(1)
    console.plain(f"{what}, read as {name}: no problems")


@data.command("register")
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set whose images you provide.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the images.")],
) -> None:
    """Register the folder of a data set, so that --data-root is not needed."""
    entry = registry().find("dataset", name)
    if not _needs_root(entry):
        raise UsageError(f"{entry} includes its images; there is no folder to register")
    console.plain(f"{entry.spec.name}: {register_root(entry.spec.name, path, getattr(entry.spec, 'root_files', ()))}")


def _needs_root(entry: RegistryEntry) -> bool:
    return isinstance(entry.spec, DatasetSpec) and entry.spec.needs_root


def _where(entry: RegistryEntry) -> str:
    if not _needs_root(entry):
        return "included"
    try:
        return str(data_root(entry.spec.name, files=getattr(entry.spec, "root_files", ())))
    except DataError:
        return "not set"


def _open(
    registry: Registry, text: str, root: Path | None, test_folder: Path | None = None, download: bool = False
) -> Dataset:
    from robustbench_med.cli.progress.bars import RichProgress
    from robustbench_med.grid.data_options import with_data_options
    from robustbench_med.plugins.references import parse

    ref = parse(str(with_data_options(text, test_folder, download, root)))
    check_images(registry, ref, root)  # before anything heavy is imported
    from robustbench_med.datasets.loading import open_dataset

    return open_dataset(registry, ref, root, RichProgress())


def _reads_file(registry: Registry, dataset: str | None, path: Path) -> bool:
    """Whether the data set that is named, or any, takes such a file in place of a folder."""
    from robustbench_med.plugins.references import parse

    entries = [registry.find("dataset", parse(dataset).name)] if dataset else registry.entries("dataset")
    return any(path.suffix.lower() in getattr(entry.spec, "root_files", ()) for entry in entries)


def _check_as(registry: Registry, text: str, path: Path) -> tuple[str, list[str]]:
    return text, _open(registry, text, path).check()


def _check_any(registry: Registry, path: Path) -> tuple[str, list[str]]:
    """Read the folder or file as every data set that takes it, and choose the first that finds no problem.

    Raises:
        DataError: none can read it, or several can, all with problems.
    """
    read: dict[str, list[str]] = {}
    refused: dict[str, DataError] = {}
    for entry in filter(_needs_root, registry.entries("dataset")):
        if path.is_file() and path.suffix.lower() not in getattr(entry.spec, "root_files", ()):
            continue
        try:
            read[entry.spec.name] = _check_as(registry, entry.qualified, path)[1]
        except DataError as error:
            refused[entry.spec.name] = error
    clean = [name for name, problems in read.items() if all(line.startswith("note:") for line in problems)]
    fits = clean or list(read)
    if len(fits) == 1:
        return fits[0], read[fits[0]]
    if clean:
        other = f"note: it could also be read as {', '.join(clean[1:])}; --dataset chooses"
        return clean[0], [*read[clean[0]], other]
    if fits:
        raise DataError(f"{path} could be read as {' or '.join(fits)}; choose one with --dataset")
    # What is there and wrong counts, not what other data sets would read.
    wrong = {name: error for name, error in refused.items() if not isinstance(error, NothingFound)}
    if wrong:
        reasons = "; ".join(f"{name}: {error}" for name, error in wrong.items())
        raise DataError(f"no data set can read {path} ({reasons})")
    lacking = [error.what for error in refused.values() if isinstance(error, NothingFound)]
    if not lacking:
        raise DataError(f"no data set can read {path} (no installed data set reads a folder)")
    raise DataError(f"no data set can read {path}: it holds no {', no '.join(lacking)}; --dataset NAME says more")
