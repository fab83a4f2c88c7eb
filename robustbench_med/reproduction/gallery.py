"""Pictures of a row of the leaderboard: images, what an attack made of them, and what the defense did about it.

Drawn once, from the weights of the row's record, and kept beside the records; the page only links them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustbench_med.attacks.attacked_system import AttackedSystem
from robustbench_med.attacks.rung import Rung, RungRef, resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.attacks.worst_case import WorstCase
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import BadParameter
from robustbench_med.files.atomic import new_folder
from robustbench_med.interfaces import System
from robustbench_med.interfaces.dataset import DataCard, Split
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.leaderboard.render.page.gallery import MANIFEST, Answered, Example, Gallery
from robustbench_med.leaderboard.schema import Entry
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.plugins.references import PartRef, format_eps
from robustbench_med.records.record import Record
from robustbench_med.records.sections.attack import RungAttackSection
from robustbench_med.reproduction.verify import Verifier
from robustbench_med.training import image_grid

#: Rungs whose images are made on the defense itself, with a gradient.
RUNGS = ("oblivious", "boundary", "bpda", "gate", "full")
#: Side of a tile in pixels, at most; the quality of a strip, so that a gallery stays small; pixels between tiles.
SIDE, QUALITY, GAP = 128, 80, 2
#: Times as many images as are shown are attacked in search of one that was purified.
MORE = 6


@dataclass(frozen=True)
class Seen:
    """Images of one client, attacked, and what its system makes of them; noise is that of one draw.

    Attributes:
        client: the client.
        rows: of the test split.
        clean, attacked: (N, C, H, W).
        truth: (N,).
        answers: (2, N), of clean and of attacked images; -1 for an abstention, -2 for what is not finite.
        alone: (2, N), answers of the classifier without detector and purifier.
        scores: (2, N), NaN without a detector.
        flagged: bool (2, N).
        errors: (N, H, W) of the attacked images, or None for a detector that cannot say where.
        purified: (N, C, H, W), NaN where an image was not purified; None without a purifier.
        threshold: scores above it are flagged; None without a gate.
    """

    client: str
    rows: tuple[int, ...]
    clean: Tensor
    attacked: Tensor
    truth: Tensor
    answers: Tensor
    alone: Tensor
    scores: Tensor
    flagged: Tensor
    errors: Tensor | None
    purified: Tensor | None
    threshold: float | None

    @property
    def withstood(self) -> Tensor:
        """Bool (N,): the attacked image is correct, or the system abstains."""
        return (self.answers[1] == self.truth) | (self.answers[1] == -1)

    @property
    def treated(self) -> Tensor:
        """Bool (N,): the attacked image was purified."""
        if self.purified is None:
            return torch.zeros_like(self.flagged[1])
        return ~self.purified.flatten(1).isnan().any(1)


def draw(verifier: Verifier, entry: Entry, folder: Path, images: int = 4, patients: bool = False) -> Path:
    """Draw the gallery of a row: half of its images broken by the attack, half not, where there are such.

    Of a system with a purifier, one of them is an image that it purified under attack, if there is such a one among the
    first `MORE` times as many as are shown.

    Args:
        verifier: opens data and weights.
        entry: the row.
        folder: of all galleries; the row's own folder in it is made anew.
        images: how many.
        patients: also images that are not synthetic; for pages that stay with whoever may see them.

    Returns:
        The row's folder.

    Raises:
        BadParameter: its images may not be shown, or none of its attacks follows a gradient.
        UsageError: the record does not hold the options of its run, or data or weights are not here.
    """
    record = entry.records[0]
    if not (record.dataset.synthetic or patients):
        raise BadParameter(f"{entry.id}: images of {record.dataset.name} are of patients, and are not shown")
    dataset, deployment = verifier.opened(record)
    rung = strongest(verifier, record)
    test, card = dataset.split("test"), dataset.card()
    outcome = entry.outcomes[0] if entry.outcomes else None
    seen: list[Seen] = []
    for count in (2 * images, MORE * images):
        done = {row for each in seen for row in each.rows}
        rows = [row for row in candidates(test, record, outcome, count).tolist() if row not in done]
        for client in sorted({test.sites[row] for row in rows}):
            part = torch.tensor([row for row in rows if test.sites[row] == client])
            seen.append(look(deployment, client, test.select(part), part, rung, record))
        purified = any(each.treated.any() for each in seen) or all(each.purified is None for each in seen)
        if purified and any(not each.withstood.all() for each in seen):
            break
    chosen = choose(seen, images)
    target = folder / entry.id
    with new_folder(target) as draft:
        examples = write(chosen, card, draft)
        licence = record.dataset.licence or "licence not given"
        whose = "synthetic" if record.dataset.synthetic else "images of patients: pass on only what the licence permits"
        told = (
            f"Attacked by {rung.name}, {record.threat.norm.capitalize()} {format_eps(record.threat.eps)}; one "
            f"noise draw. Images: {card.name} ({whose}), {licence}."
        )
        gallery = Gallery(told=told, columns=columns(chosen), examples=examples)
        (draft / MANIFEST).write_text(gallery.model_dump_json() + "\n", encoding="utf-8")
    return target


def strongest(verifier: Verifier, record: Record) -> Rung:
    """The attack with a gradient that broke the most images of a cell; of equal ones the last.

    Raises:
        BadParameter: there is none.
    """
    attack, broken = record.attack, {rung.rung: rung.broken or 0 for rung in record.rungs if not rung.reason}
    alone = RungAttackSection(
        access=record.threat.access, eot=record.eot, name=attack.name, params_passed=attack.params_passed
    )
    found: list[tuple[float, Rung]] = []
    for spec in attack.rungs or [alone]:
        ref = RungRef(spec.access, PartRef(spec.name, spec.params_passed), spec.eot, spec.evasion)
        if ref.access in RUNGS and ref.name in broken:
            found.append((float(broken[ref.name]), resolve_rung(verifier.registry, ref, record.eot)))
    if not found:
        raise BadParameter(f"cell {record.cell_id}: no attack with a gradient on the defense was run")
    return max(reversed(found), key=lambda each: each[0])[1]


def candidates(test: Split, record: Record, outcome: ImageResults | None, count: int) -> Tensor:
    """Rows of the test split to try, int64: as many that the ladder broke as that it did not, where that is known."""
    every = rows_to_evaluate(test, tuple(record.clients), record.limit)
    if outcome is None:
        return every[:count]
    fate = {row: bool(safe > 0) for row, safe in zip(outcome.index, outcome.robust, strict=True)}
    right = {row for row, share in zip(outcome.index, outcome.correct, strict=True) if share == 1}
    known = [row for row in every.tolist() if row in right]
    groups = [[row for row in known if fate[row] == kind] for kind in (False, True)]
    half = [group[: max(count // 2, count - len(other))] for group, other in zip(groups, reversed(groups), strict=True)]
    return torch.tensor(sorted(half[0] + half[1]), dtype=torch.int64)


def look(deployment: Deployment, client: str, split: Split, rows: Tensor, rung: Rung, record: Record) -> Seen:
    """Attack images of one client as the record's cell did, and let its system answer them before and after."""
    pipeline, device = deployment.pipeline(client), deployment.device
    card = deployment.dataset.card()
    threat = ThreatModel(record.threat.norm, record.threat.eps, rung.access, record.threat.goal)
    settings = EvaluationSettings(
        threat, (rung,), len(card.classes), card.lesion_class, device, record.seed, watch=False
    )
    x, y, ids = split.images.to(device), split.labels.to(device), rows.to(device)
    attacks = WorstCase(AttackedSystem(pipeline, settings), x, y, ids, settings)
    _, attacked = attacks.attack(rung, torch.arange(len(x), device=device))
    before, after = (_treated(pipeline, images, ids, record.seed) for images in (x, attacked))
    rng = Stream.named("gallery", record.seed, ids)
    errors = None
    if pipeline.detector is not None:
        with torch.no_grad():
            system = System(pipeline.classifier, pipeline.purifier)
            errors = pipeline.detector.error_map(attacked, system, rng.moment(0).fork("detector"))
    answers, scores, flagged = (torch.stack(pair) for pair in zip(before[:3], after[:3], strict=True))
    with torch.no_grad():
        alone = torch.stack([pipeline.classifier(images).argmax(1).cpu() for images in (x, attacked)])
    return Seen(
        client,
        tuple(rows.tolist()),
        x.cpu(),
        attacked.cpu(),
        split.labels,
        answers,
        alone,
        scores,
        flagged,
        None if errors is None else errors.cpu(),
        None if pipeline.purifier is None else after[3],
        pipeline.gate.threshold if pipeline.gate else None,
    )


@torch.no_grad()
def _treated(pipeline: Pipeline, x: Tensor, ids: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Answers, scores, flags, and the images as they were purified (NaN where they were not), on the CPU."""
    treated = pipeline.treat(x, Stream.named("gallery", seed, ids).moment(0))
    logits = pipeline.answer(x, treated.rows, treated.copies)
    answers = pipeline.classes(logits, treated).masked_fill(treated.rejected, -1)
    purified = torch.full_like(x, float("nan"))
    if len(treated.rows):
        purified[treated.rows] = treated.copies[:, 0]
    return answers.cpu(), treated.scores.cpu(), treated.flagged.cpu(), purified.cpu()


def choose(seen: Sequence[Seen], images: int) -> list[tuple[Seen, int]]:
    """Images to show, as (client's, number): half of them broken, half not, clients in turn.

    More of one kind where the other is lacking; none that was answered wrong before the attack. One was purified, if
    any was.
    """
    turns = [(at, each) for at in range(max(len(each.truth) for each in seen)) for each in seen if at < len(each.truth)]
    fair = [(each, at) for at, each in turns if each.answers[0, at] == each.truth[at]]
    broken = [pair for pair in fair if not pair[0].withstood[pair[1]]]
    held = [pair for pair in fair if pair[0].withstood[pair[1]]]
    half = images // 2
    first = broken[: max(half, images - len(held))]
    last = held[: images - len(first)]
    if not any(each.treated[at] for each, at in first + last):
        for kind, found in ((last, held), (first, broken)):
            treated = [pair for pair in found if pair[0].treated[pair[1]]]
            if treated and kind:
                kind[-1] = treated[0]
                break
    return first + last


def columns(chosen: Sequence[tuple[Seen, int]]) -> list[str]:
    """What the tiles of a strip are."""
    names = ["clean", "attacked", "perturbation \N{MULTIPLICATION SIGN} 10"]
    names += ["error map of the detector"] if any(each.errors is not None for each, _ in chosen) else []
    names += ["purified"] if any(each.purified is not None for each, _ in chosen) else []
    return names


def write(chosen: Sequence[tuple[Seen, int]], card: DataCard, folder: Path) -> list[Example]:
    """Write a strip for each image; all error maps have one scale."""
    maps = [each.errors[at] for each, at in chosen if each.errors is not None]
    high = float(torch.quantile(torch.stack(maps).flatten(), 0.995)) if maps else 1.0
    names, examples = columns(chosen), []
    for number, (each, at) in enumerate(chosen, 1):
        tiles = [image_grid.grey(each.clean[at : at + 1], 0, 1), image_grid.grey(each.attacked[at : at + 1], 0, 1)]
        tiles.append(image_grid.grey(10 * (each.attacked - each.clean)[at : at + 1], -0.5, 0.5))
        side = each.clean.shape[-1]
        if maps:
            tiles.append(_nothing(side) if each.errors is None else image_grid.heat(each.errors[at : at + 1], high))
        if "purified" in names:
            shown = each.purified is not None and not each.purified[at].isnan().any()
            assert each.purified is not None or not shown
            tiles.append(
                image_grid.grey(each.purified[at : at + 1], 0, 1)
                if shown and each.purified is not None
                else _nothing(side)
            )
        strip = _strip(np.concatenate(tiles))
        file = f"{number}.webp"
        strip.save(folder / file, quality=QUALITY, method=6)
        fate = "withstood" if each.withstood[at] else "broken"
        examples.append(
            Example(
                file=file,
                width=strip.width,
                height=strip.height,
                withstood=bool(each.withstood[at]),
                client=each.client,
                truth=card.classes[int(each.truth[at])],
                threshold=each.threshold,
                before=_answered(each, at, 0, card),
                after=_answered(each, at, 1, card),
                alt=f"{', '.join(names)}: an image of {each.client}, {fate}",
            )
        )
    return examples


def _answered(each: Seen, at: int, side: int, card: DataCard) -> Answered:
    """What the system made of an image: before the attack (side 0) or under it (1)."""
    answer, score = int(each.answers[side, at]), float(each.scores[side, at])
    return Answered(
        answer={-1: "no answer", -2: "not finite"}.get(answer) or card.classes[answer],
        alone=card.classes[int(each.alone[side, at])],
        score=score if math.isfinite(score) else None,
        flagged=bool(each.flagged[side, at]) if each.threshold is not None else None,
        purified=None if each.purified is None else bool(each.flagged[side, at]),
    )


def _nothing(side: int) -> image_grid.Tiles:
    """A grey tile, where there is nothing to show."""
    return image_grid.blank(1, side) // 2


def _strip(tiles: image_grid.Tiles) -> Image.Image:
    """Tiles (N, H, W, 3) side by side, thinned out where they are large."""
    tiles = tiles[:, :: max(1, tiles.shape[1] // SIDE), :: max(1, tiles.shape[2] // SIDE)]
    gap = np.full((tiles.shape[1], GAP, 3), 128, dtype=np.uint8)
    parts = [part for tile in tiles for part in (tile, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))
