"""``rbmed leaderboard check``, ``verify`` and ``rescore``: what is handed in, judged and recomputed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.commands.plugins import PluginFiles, registry
from robustbench_med.cli.console import plain
from robustbench_med.errors import BadParameter, DataError

if TYPE_CHECKING:
    from robustbench_med.leaderboard.sources.evidence import Evidence
    from robustbench_med.leaderboard.sources.folder import Sources
    from robustbench_med.leaderboard.sources.submission import Submission
    from robustbench_med.records.record import Record
    from robustbench_med.reproduction.verify import Verifier

Root = Annotated[Path, typer.Option(help="Folder of the leaderboard.")]
File = Annotated[Path, typer.Argument(help="What was handed in: a submission or evidence, NAME.json.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:i. [the record's, or cpu]")]
Weights = Annotated[Path | None, typer.Option(help="Folder of the weights. [those of the record]")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of your images (or RBMED_DATA).")]


def check(file: File, root: Root = Path("leaderboard")) -> None:
    """Check what was handed in without running anything; exit code 1 if it is refused."""
    from robustbench_med.cli.commands.submit import show
    from robustbench_med.leaderboard.sources.evidence import Evidence
    from robustbench_med.leaderboard.sources.folder import read_sources
    from robustbench_med.leaderboard.sources.submission import review

    handed_in, sources = _read(file), read_sources(root)
    if isinstance(handed_in, Evidence):
        record = _target(sources, handed_in.cell_id)
        plain(f"{file}: answers to {len(handed_in.outcome.index)} images against {record.defense.name}; rbmed "
              "leaderboard verify with the images tells whether they hold")  # fmt: skip
        return
    own = f"submissions/{file.name}"
    there = {record.cell_id: record for name, records in sources.files.items() if name != own for record in records}
    judged = review(handed_in, there)
    show(judged)
    if judged.refused:
        raise typer.Exit(1)
    plain(f"{file}: {len(handed_in.records)} cells of {handed_in.defense} can be taken")


def verify(
    file: File,
    root: Root = Path("leaderboard"),
    sample: Annotated[int | None, typer.Option(min=1, help="Run this many cells again, drawn by chance. [all]")] = None,
    sample_seed: Annotated[int, typer.Option(help="Makes the draw repeatable.")] = 0,
    images: Annotated[Path | None, typer.Option(help="Adversarial images that evidence speaks of.")] = None,
    device: Device = None,
    weights: Weights = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Recompute what was handed in: run cells again, score images again; exit code 1 where it does not hold."""
    from robustbench_med.cli.progress.bars import RichProgress
    from robustbench_med.leaderboard.sources.folder import read_sources
    from robustbench_med.leaderboard.sources.submission import Submission
    from robustbench_med.reproduction.verify import Verifier

    handed_in = _read(file)
    verifier = Verifier(registry(plugin), device, data_root, RichProgress())
    if isinstance(handed_in, Submission):
        holds = _verify_cells(handed_in, verifier, sample, sample_seed, weights)
    else:
        record = _target(read_sources(root), handed_in.cell_id)
        holds = _verify_images(handed_in, record, verifier, images, weights)
    if not holds:
        raise typer.Exit(1)


def rescore(
    images: Annotated[Path, typer.Argument(help="Adversarial images: safetensors with index and images.")],
    cell: Annotated[str, typer.Option(help="Cell of the leaderboard that they are for; the beginning is enough.")],
    name: Annotated[str, typer.Option(help="Name of the file to write.")],
    attack: Annotated[str, typer.Option(help="What made the images, in words.")],
    paper: Annotated[str, typer.Option(help="Where the attack is described: https://...")],
    cite: Annotated[str, typer.Option(help="The same in words. [its address]")] = "",
    target: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("submission"),
    root: Root = Path("leaderboard"),
    device: Device = None,
    weights: Weights = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Score adversarial images of your own against a row; writes evidence where they break more than is known."""
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
    plain(f"{target / name}.json: copy it to leaderboard/evidence, and say where the images are")


def _verify_cells(
    handed_in: Submission, verifier: Verifier, sample: int | None, seed: int, weights: Path | None
) -> bool:
    from robustbench_med.cli.tables.records import name_of

    records = [record for record in handed_in.records if record.status == "ok"]
    if sample is not None and sample < len(records):
        records = random.Random(seed).sample(records, sample)
    if not records:
        raise DataError(f"{handed_in.name} holds no measured cell")
    findings = []
    for record in records:
        finding = verifier.verify(record, weights=weights)
        findings.append(finding)
        plain(f"{finding.verdict:<10} {record.cell_id}  {name_of(record)}")
        for note in finding.notes[:8]:
            plain(f"           {note}")
    plain(f"{sum(finding.holds for finding in findings)} of {len(findings)} cells hold")
    return all(finding.holds for finding in findings)


def _verify_images(
    handed_in: Evidence, record: Record, verifier: Verifier, images: Path | None, weights: Path | None
) -> bool:
    from robustbench_med.reproduction.rescore import rescore as rescored

    if images is None:
        raise BadParameter("this is evidence; name the file of its adversarial images: --images FILE")
    again = rescored(verifier, record, images, handed_in.name, handed_in.attack, handed_in.paper, weights)
    if again.digest != handed_in.digest:
        plain(f"{images} has digest {again.digest}, the evidence is of {handed_in.digest}")
        return False
    _say(again, record)
    pairs = ((handed_in.choice, again.choice), (handed_in.outcome, again.outcome))
    differ = sum(int((one.attacked != two.attacked).any(0).sum()) for one, two in pairs)
    plain("every answer is the same" if not differ else f"{differ} answers differ")
    return not differ


def _say(found: Evidence, record: Record) -> None:
    safe, right = found.outcome.safe.mean(), found.outcome.right.mean()
    plain(f"{safe:.1%} of {len(found.outcome.index)} images withstand, {right:.1%} are right when clean")
    plain(f"the record says {record.metrics.get('robust_accuracy')} of {record.n} images")


def _read(file: Path) -> Submission | Evidence:
    """A submission, or evidence: told apart by what only evidence has."""
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
            f"{len(found)} measured cells of the leaderboard have an id that begins with {cell!r}; name one"
        )
    return found[0]
