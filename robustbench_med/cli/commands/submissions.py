"""``rbmed leaderboard check``, ``verify`` and ``rescore``: submissions and evidence are checked and recomputed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.commands.leaderboard import Root, leaderboard
from robustbench_med.cli.commands.verify import counted, show_finding
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import DataRoot, PluginFiles, RecordDevice, RecordWeights, Sample, SampleSeed, registry
from robustbench_med.errors import BadParameter, DataError

if TYPE_CHECKING:
    from robustbench_med.leaderboard.sources.evidence import Evidence
    from robustbench_med.leaderboard.sources.folder import Sources
    from robustbench_med.leaderboard.sources.submission import Submission
    from robustbench_med.records.record import Record
    from robustbench_med.reproduction.verify import Verifier

File = Annotated[Path, typer.Argument(help="A submission or evidence, NAME.json.")]


@leaderboard.command()
def check(file: File, root: Root = Path("leaderboard")) -> None:
    """Check a submission or evidence without running anything; exit code 1 if it is refused."""
    from robustbench_med.cli.commands.submit import show
    from robustbench_med.leaderboard.sources.evidence import Evidence
    from robustbench_med.leaderboard.sources.folder import read_sources
    from robustbench_med.leaderboard.sources.submission import review

    submitted, sources = _read(file), read_sources(root)
    if isinstance(submitted, Evidence):
        record = _target(sources, submitted.cell_id)
        images = len(submitted.outcome.index)
        plain(f"{file}: predictions for {images} images against {record.defense.name}; check them with the images:")
        plain(f"  rbmed leaderboard verify {file} --images FILE")
        return
    own = f"submissions/{file.name}"
    there = {record.cell_id: record for name, records in sources.files.items() if name != own for record in records}
    result = review(submitted, there)
    show(result)
    if result.refused:
        raise typer.Exit(1)
    plain(f"{file}: {len(submitted.records)} cells of {submitted.defense} are accepted")


@leaderboard.command()
def verify(
    file: File,
    root: Root = Path("leaderboard"),
    sample: Sample = None,
    sample_seed: SampleSeed = 0,
    images: Annotated[Path | None, typer.Option(help="Adversarial images of the evidence.")] = None,
    device: RecordDevice = None,
    weights: RecordWeights = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Run the cells of a submission, or score the images of evidence, again; exit code 1 if results differ."""
    from robustbench_med.cli.progress.bars import RichProgress
    from robustbench_med.leaderboard.sources.folder import read_sources
    from robustbench_med.leaderboard.sources.submission import Submission
    from robustbench_med.reproduction.verify import Verifier

    submitted = _read(file)
    verifier = Verifier(registry(plugin), device, data_root, RichProgress())
    if isinstance(submitted, Submission):
        holds = _verify_cells(submitted, verifier, sample, sample_seed, weights)
    else:
        record = _target(read_sources(root), submitted.cell_id)
        holds = _verify_images(submitted, record, verifier, images, weights)
    if not holds:
        raise typer.Exit(1)


@leaderboard.command()
def rescore(
    images: Annotated[Path, typer.Argument(help="Adversarial images: safetensors with index and images.")],
    cell: Annotated[str, typer.Option(help="Id, or its beginning, of the cell that they attack.")],
    name: Annotated[str, typer.Option(help="Name of the file to write.")],
    attack: Annotated[str, typer.Option(help="Description of the attack that made the images.")],
    paper: Annotated[str, typer.Option(help="URL of a description of the attack: https://...")],
    cite: Annotated[str, typer.Option(help="Citation of it. [its URL]")] = "",
    target: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("submission"),
    root: Root = Path("leaderboard"),
    device: RecordDevice = None,
    weights: RecordWeights = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Score your own adversarial images against a row; writes evidence if they lower its robust accuracy."""
    from robustbench_med.cli.progress.bars import RichProgress
    from robustbench_med.leaderboard.schema import Paper
    from robustbench_med.leaderboard.sources.evidence import write
    from robustbench_med.leaderboard.sources.folder import checked_name, read_sources
    from robustbench_med.leaderboard.sources.submission import checked_url
    from robustbench_med.reproduction.rescore import rescore as rescored
    from robustbench_med.reproduction.verify import Verifier

    checked_name(name)
    published = Paper(cite or paper, checked_url(paper))
    record = _target(read_sources(root), cell)
    verifier = Verifier(registry(plugin), device, data_root, RichProgress())
    found = rescored(verifier, record, images, name, attack, published, weights)
    _say(found, record)
    write(target / f"{name}.json", found)
    plain(f"{target / name}.json: copy it to leaderboard/evidence, and say where the images can be found")


def _verify_cells(
    submitted: Submission, verifier: Verifier, sample: int | None, seed: int, weights: Path | None
) -> bool:
    records = [record for record in submitted.records if record.status == "ok"]
    if sample is not None and sample < len(records):
        records = random.Random(seed).sample(records, sample)
    if not records:
        raise DataError(f"{submitted.name} holds no measured cell")
    findings = []
    for record in records:
        finding = verifier.verify(record, weights=weights, images=submitted.outcomes.get(record.cell_id))
        findings.append(finding)
        show_finding(finding)
    plain(counted(findings))
    return all(finding.verified for finding in findings)


def _verify_images(
    submitted: Evidence, record: Record, verifier: Verifier, images: Path | None, weights: Path | None
) -> bool:
    from robustbench_med.reproduction.rescore import rescore as rescored

    if images is None:
        raise BadParameter(f"{submitted.name} is evidence; name the file of its adversarial images: --images FILE")
    again = rescored(verifier, record, images, submitted.name, submitted.attack, submitted.paper, weights)
    if again.digest != submitted.digest:
        plain(f"{images} has digest {again.digest}, the images of the evidence have {submitted.digest}")
        return False
    _say(again, record)
    pairs = ((submitted.choice, again.choice), (submitted.outcome, again.outcome))
    differ = sum(int((one.attacked != two.attacked).any(0).sum()) for one, two in pairs)
    plain("all predictions are the same" if not differ else f"{differ} predictions differ")
    return not differ


def _say(found: Evidence, record: Record) -> None:
    safe, right = found.outcome.robust.mean(), found.outcome.correct.mean()
    plain(f"{safe:.1%} of {len(found.outcome.index)} images are robust, {right:.1%} are correct when clean")
    plain(f"the record says {record.metrics.get('robust_accuracy')} of {record.n} images")


def _read(file: Path) -> Submission | Evidence:
    """A submission, or evidence, which alone has the digest of its images."""
    from robustbench_med.leaderboard.sources import evidence, submission

    try:
        text = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None
    return evidence.read(file) if b'"images_sha256"' in text else submission.read(file)


def _target(sources: Sources, cell: str) -> Record:
    found = [record for record in sources.records if record.cell_id.startswith(cell) and record.status == "ok"]
    if len({record.cell_id for record in found}) != 1:
        raise BadParameter(
            f"{len(found)} measured cells of the leaderboard have an id that begins with {cell!r}; name exactly one"
        )
    return found[0]
