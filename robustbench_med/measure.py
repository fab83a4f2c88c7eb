"""Attack one client's images and score the deployed pipeline: tensors in, `Outcome` out.

The harness, not the attack, declares success: it checks norm and range of every adversarial image and lets the
deployed pipeline answer with noise that no attack has seen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustbench_med.batching import in_chunks
from robustbench_med.data import Split
from robustbench_med.interfaces import Attack
from robustbench_med.outcome import Outcome, Verdicts
from robustbench_med.pipeline import Pipeline
from robustbench_med.streams import Stream
from robustbench_med.surfaces import Meter, surface
from robustbench_med.threat import Budget, ThreatModel


def measure(
    pipeline: Pipeline,
    attack: Attack,
    split: Split,
    index: Tensor,
    threat: ThreatModel,
    *,
    num_classes: int,
    lesion_class: int | None,
    device: torch.device,
    seed: int = 0,
    eot: int = 1,
    draws: int = 1,
    batch: int = 64,
    budget: Budget | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> Outcome:
    """Attack and score the images of one client.

    Args:
        pipeline: the client's deployed system.
        attack: any attack.
        split: the client's images.
        index: int64 (N,), row of each image in the whole test split; random streams follow it, not the batch.
        threat: norm, eps, access.
        num_classes: K, for metrics.
        lesion_class: for metrics.
        device: where to work.
        seed: of attack, defense and scoring noise, which come from separate streams.
        eot: noise draws averaged in each gradient.
        draws: fresh noise draws each image is scored on; a deterministic pipeline is scored once.
        batch: images per chunk.
        budget: what the attack may spend per image.
        advance: told how many images are done.

    Raises:
        OutsideThreatModel: an adversarial image left the ball or [0, 1].
        BudgetExceeded: the attack asked for more than its budget.
    """
    draws = draws if pipeline.stochastic else 1
    clean: list[Verdicts] = []
    attacked: list[Verdicts] = []
    distances: list[Tensor] = []
    spent: list[tuple[Tensor, Tensor]] = []

    def one_chunk(part: slice) -> None:
        x, y = split.images[part].to(device), split.labels[part].to(device)
        ids = index[part].to(device)
        meter = Meter(len(x), budget or Budget(), device)
        seen = surface(pipeline, threat.access, Stream.named("defense-under-attack", seed, ids), meter, eot)
        x_adv = attack.run(seen, x.clone(), y, threat, meter.budget, Stream.named("attack", seed, ids)).detach()
        threat.check(x_adv, x)
        x_adv = threat.project(x_adv, x)  # removes float rounding only: anything more has just failed the check
        scoring = Stream.named("scoring", seed, ids)
        before = pipeline.decide(x, scoring, draws)
        after = pipeline.decide(x_adv, scoring, draws)
        # Appended together and last: a chunk that ran out of memory is repeated whole.
        clean.append(before)
        attacked.append(after)
        distances.append(threat.distance(x_adv, x).cpu())
        spent.append((meter.gradients.cpu(), meter.queries.cpu()))
        advance(len(x))

    in_chunks(len(split), batch, one_chunk)
    return Outcome(
        labels=split.labels,
        sites=split.sites,
        patients=split.patients,
        clean=Verdicts.join(clean),
        attacked=Verdicts.join(attacked),
        distances=torch.cat(distances),
        gradients=torch.cat([gradients for gradients, _ in spent]),
        queries=torch.cat([queries for _, queries in spent]),
        num_classes=num_classes,
        lesion_class=lesion_class,
        index=index,
    )


def join(parts: list[Outcome]) -> Outcome:
    """The outcomes of several clients as one."""
    first = parts[0]
    return Outcome(
        labels=torch.cat([part.labels for part in parts]),
        sites=sum((part.sites for part in parts), ()),
        patients=sum((part.patients for part in parts), ()),
        clean=Verdicts.join([part.clean for part in parts]),
        attacked=Verdicts.join([part.attacked for part in parts]),
        distances=torch.cat([part.distances for part in parts]),
        gradients=torch.cat([part.gradients for part in parts]),
        queries=torch.cat([part.queries for part in parts]),
        num_classes=first.num_classes,
        lesion_class=first.lesion_class,
        index=torch.cat([part.index for part in parts]),
    )
