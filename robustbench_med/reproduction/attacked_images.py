"""Images of a row of the leaderboard, attacked again, and what its system makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.attacks.attacked_system import AttackedSystem
from robustbench_med.attacks.rung import Rung, RungRef, resolve_rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.attacks.worst_case import WorstCase
from robustbench_med.datasets.loading import rows_to_evaluate
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import BadParameter
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.defense import System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record
from robustbench_med.records.sections.attack import RungAttackSection

#: Rungs whose images are made on the defense itself, with a gradient.
RUNGS = ("oblivious", "boundary", "bpda", "gate", "full")


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


def strongest(registry: Registry, record: Record) -> Rung:
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
            found.append((float(broken[ref.name]), resolve_rung(registry, ref, record.eot)))
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
