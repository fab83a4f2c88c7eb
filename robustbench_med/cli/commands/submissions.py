"""``rbmed leaderboard check``, ``verify`` and ``rescore``: submissions and evidence are checked and recomputed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.commands.leaderboard import ReadRoot, Root, leaderboard
from robustbench_med.cli.commands.published_records import check_records, opened
from robustbench_med.cli.commands.verify import FreshSource, NewImages, Train, chosen, counted, show_finding, show_fresh
from robustbench_med.cli.console import plain
from robustbench_med.cli.options import (
    Cells,
    DataRoot,
    PluginFiles,
    RecordDevice,
    RecordWeights,
    Sample,
    SampleSeed,
    downloaded,
    registry,
)
from robustbench_med.errors import BadParameter, DataError
from robustbench_med.files.atomic import check_writable
from robustbench_med.files.jsonl import is_lines
from robustbench_med.files.strict_json import ordinary_bytes
from robustbench_med.interfaces.plural import plural

if TYPE_CHECKING:
    from robustbench_med.leaderboard.sources.evidence import Evidence
    from robustbench_med.leaderboard.sources.folder import Sources
    from robustbench_med.leaderboard.sources.submission import Submission
    from robustbench_med.leaderboard.sources.verified import Fresh, Word
    from robustbench_med.records.record import Record
    from robustbench_med.reproduction.fresh_images import FreshFinding
    from robustbench_med.reproduction.verify import Finding, Verifier


@leaderboard.command()
def check(
    file: Annotated[Path, typer.Argument(help="A submission or evidence, NAME.json, or a file of records here.")],
    root: ReadRoot = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Check a submission, evidence or records without running anything; exit code 1 if one is refused."""
    from robustbench_med.cli.commands.submit import judged, show
    from robustbench_med.leaderboard.sources.evidence import Evidence
    from robustbench_med.leaderboard.sources.folder import default_folder, read_sources, with_known_labels
    from robustbench_med.leaderboard.sources.lesion_sizes import checked_lesions

    submitted = _read(file)
    sources = read_sources(root or default_folder())
    if isinstance(submitted, Evidence):
        record = _target(sources, submitted.cell_id)
        with_known_labels(submitted, record, sources.splits, sources.outcomes, str(file))
        images = len(submitted.outcome.index)
        plain(
            f"{file}: predictions for {plural(images, 'image')} against {record.defense.name}; "
            "check them with the images:"
        )
        plain(f"  rbmed leaderboard verify {file} --images FILE")
        return
    if is_lines(file):
        check_records(file, submitted, sources, registry(plugin), data_root)
        return
    own = f"submissions/{file.name}"
    there = {record.cell_id: record for name, records in sources.files.items() if name != own for record in records}
    checked_lesions([*there.values(), *submitted.records], {**sources.outcomes, **submitted.outcomes})
    result = judged(submitted, there, sources.splits, registry(plugin), data_root)
    show(result)
    if result.refused:
        raise typer.Exit(1)
    are = "is" if len(submitted.records) == 1 else "are"
    plain(f"{file}: {plural(len(submitted.records), 'cell')} of {submitted.defense} {are} accepted")


@leaderboard.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A submission or evidence, NAME.json, or a file of records here.")],
    root: Root = Path("leaderboard"),
    sample: Sample = None,
    sample_seed: SampleSeed = 0,
    cell: Cells = None,
    images: Annotated[Path | None, typer.Option(help="Adversarial images of the evidence.")] = None,
    fresh: FreshSource = None,
    accept: Annotated[
        str | None, typer.Option(help="Your name: write down in verified.jsonl what was verified.")
    ] = None,
    why: Annotated[
        str, typer.Option(help="Why you believe figures that are only within sampling error; with --accept.")
    ] = "",
    device: RecordDevice = None,
    weights: RecordWeights = None,
    data_root: DataRoot = None,
    train: Train = False,
    plugin: PluginFiles = None,
) -> None:
    """Run the cells of a submission, or score the images of evidence, again; exit code 1 if results differ."""
    from robustbench_med.cli.progress.bars import RichProgress
    from robustbench_med.leaderboard.sources.claims import Publications
    from robustbench_med.leaderboard.sources.folder import Sources, read_sources
    from robustbench_med.leaderboard.sources.records import RECORDS
    from robustbench_med.leaderboard.sources.submission import Submission
    from robustbench_med.leaderboard.sources.verified import VERIFIED, add

    submitted, weights = _read(file), downloaded(weights)
    # The cells of a submission can be run without the leaderboard.
    sources = read_sources(root) if (root / RECORDS).is_dir() else Sources({}, {}, Publications())
    from robustbench_med.reproduction.verify import Verifier

    verifier = Verifier(registry(plugin), device, data_root, RichProgress(), train)
    says, tried = Maintainer(accept, why), NewImages(verifier, fresh, weights)
    if isinstance(submitted, Submission):
        records = chosen([record for record in submitted.records if record.status == "ok"], cell, sample, sample_seed)
        holds = _verify_cells(submitted, records, tried, says, sources)
    elif fresh is not None:
        raise BadParameter(f"--fresh {fresh}: {file} is evidence, which is of its own images; leave --fresh out")
    else:
        record = _target(sources, submitted.cell_id)
        holds = _verify_images(file, submitted, record, verifier, images, weights, says)
    if says.words:
        add(root / VERIFIED, says.words)
        plain(f"{root / VERIFIED}: {len(says.words)} words of {accept}; next: rbmed leaderboard build")
    tried.end(holds)


@dataclass
class Maintainer:
    """Who gives the word on what was verified, if anyone; ``why``: of figures within sampling error."""

    name: str | None
    why: str
    words: dict[str, Word] = field(default_factory=dict)

    def say(self, of: str, digest: str, verdict: str, fresh: Fresh | None = None) -> bool:
        """Give the word, where there is a maintainer and the verdict allows it; whether it was given."""
        from robustbench_med.leaderboard.sources.verified import Word

        if self.name is None or not (verdict == "identical" or (verdict == "within" and self.why)):
            return False
        today = dt.datetime.now(dt.UTC).date().isoformat()
        why = self.why if verdict == "within" else ""
        try:
            word = Word.model_validate(
                {"of": of, "digest": digest, "verdict": verdict, "by": self.name, "date": today, "why": why}
                | ({} if fresh is None else {"fresh": fresh})
            )
        except ValueError as error:
            raise BadParameter(f"--accept {self.name!r}, --why {why!r}: give one line each ({error!s:.80})") from None
        self.words[of] = word
        return True


@leaderboard.command()
def rescore(
    images: Annotated[Path, typer.Argument(help="Adversarial images: safetensors with index and images.")],
    cell: Annotated[str, typer.Option(help="Id, or its beginning, of the cell that they attack.")],
    name: Annotated[str, typer.Option(help="Name of the file to write.")],
    attack: Annotated[str, typer.Option(help="Description of the attack that made the images.")],
    paper: Annotated[str, typer.Option(help="URL of a description of the attack: https://...")],
    cite: Annotated[str, typer.Option(help="Citation of it. [its URL]")] = "",
    target: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("submission"),
    root: ReadRoot = None,
    device: RecordDevice = None,
    weights: RecordWeights = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
) -> None:
    """Score your own adversarial images against a row; writes evidence if they lower its robust accuracy."""
    from robustbench_med.leaderboard.sources.submission import checked_name, checked_text, checked_url

    checked_text("--attack", attack)
    checked_text("--cite", cite)
    checked_name(name)
    checked_url(paper)
    check_writable(target)
    from robustbench_med.cli.progress.bars import RichProgress
    from robustbench_med.leaderboard.entry import Paper
    from robustbench_med.leaderboard.sources.evidence import write
    from robustbench_med.leaderboard.sources.folder import default_folder, read_sources
    from robustbench_med.reproduction.rescore import rescore as rescored
    from robustbench_med.reproduction.verify import Verifier

    published = Paper(cite or paper, paper)
    record, weights = _target(read_sources(root or default_folder()), cell), downloaded(weights)
    verifier = Verifier(registry(plugin), device, data_root, RichProgress())
    found = rescored(verifier, record, images, name, attack, published, weights)
    _say(found, record)
    write(target / f"{name}.json", found)
    plain(f"{target / name}.json: copy it to leaderboard/evidence, and say where the images can be found")


def _verify_cells(
    submitted: Submission, records: list[Record], tried: NewImages, says: Maintainer, sources: Sources
) -> bool:
    from robustbench_med.leaderboard.sources.folder import with_patients
    from robustbench_med.leaderboard.sources.verified import digest_of_cell

    findings: list[Finding] = []
    for record in records:
        outcome = submitted.outcomes.get(record.cell_id)
        finding = tried.verifier.verify(record, weights=tried.weights, images=outcome)
        show_finding(finding, findings)
        findings.append(finding)
        new = tried.on(record)
        if new is not None:
            show_fresh(new)
        figures = None if new is None else _fresh_figures(new)
        if outcome is not None:
            outcome = with_patients(record, outcome, sources.splits, submitted.name)
        given = says.say(record.cell_id, digest_of_cell(record, outcome), finding.verdict, figures)
        if finding.verdict == "within" and not given:
            plain(
                "    within sampling error on other hardware is no proof; a maintainer may accept it: --accept, --why"
            )
    plain(counted(findings))
    return all(finding.verified or finding.record.cell_id in says.words for finding in findings)


def _fresh_figures(new: FreshFinding) -> Fresh:
    from robustbench_med.leaderboard.sources.verified import Fresh

    clean, robust = new.figures["clean_accuracy"], new.figures["robust_accuracy"]
    low, high = new.again.intervals["robust_accuracy"]
    return Fresh(
        source=new.source, n=new.again.n, patients=new.again.patients, clean=clean, robust=robust, low=low, high=high
    )


def _verify_images(
    file: Path,
    submitted: Evidence,
    record: Record,
    verifier: Verifier,
    images: Path | None,
    weights: Path | None,
    says: Maintainer,
) -> bool:
    from robustbench_med.leaderboard.sources.image_results import differences
    from robustbench_med.leaderboard.sources.verified import digest_of_file
    from robustbench_med.reproduction.rescore import rescore as rescored

    if images is None:
        raise BadParameter(f"{submitted.name} is evidence; name the file of its adversarial images: --images FILE")
    again = rescored(verifier, record, images, submitted.name, submitted.attack, submitted.paper, weights)
    if again.digest != submitted.digest:
        plain(f"{images} has digest {again.digest}, the images of the evidence have {submitted.digest}")
        return False
    _say(again, record)
    found = [
        *(f"choice: {each}" for each in differences(submitted.choice, again.choice)),
        *(f"outcome: {each}" for each in differences(submitted.outcome, again.outcome)),
    ]
    plain("all predictions are the same" if not found else "; ".join(found))
    if not found:
        says.say(f"evidence/{submitted.name}", digest_of_file(file), "identical")
    return not found


def _say(found: Evidence, record: Record) -> None:
    safe, right = found.outcome.robust.mean(), found.outcome.correct.mean()
    plain(f"{safe:.1%} of {plural(len(found.outcome.index), 'image')} robust, {right:.1%} correct when clean")
    plain(f"the record says {record.metrics.get('robust_accuracy')} of {plural(record.n, 'image')}")


def _read(file: Path) -> Submission | Evidence:
    """A submission, evidence, which alone has the digest of its images, or a file of records of the leaderboard."""
    from robustbench_med.leaderboard.sources import evidence, submission

    if file.is_dir():
        raise DataError(
            f"{file} is a folder; name a file in it: a submission or evidence, NAME.json, or records of the "
            f"leaderboard. A folder of results becomes a submission by rbmed submit {file}"
        )
    try:
        text = ordinary_bytes(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if is_lines(file):
        return opened(file)
    return evidence.read(file) if b'"images_sha256"' in text else submission.read(file)


def _target(sources: Sources, cell: str) -> Record:
    found = [record for record in sources.records if record.cell_id.startswith(cell) and record.status == "ok"]
    if len({record.cell_id for record in found}) != 1:
        raise BadParameter(
            f"{len(found)} measured cells of the leaderboard have an id that begins with {cell!r}; name exactly one"
        )
    return found[0]
