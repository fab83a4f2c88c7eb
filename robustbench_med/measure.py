"""Attack one client's images and score the deployed pipeline: tensors in, `Outcome` out.

The harness, not the attack, declares success: it checks norm and range of every adversarial image and lets the
deployed pipeline answer with noise that no attack has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from robustbench_med.batching import in_chunks
from robustbench_med.data import Split
from robustbench_med.errors import BudgetExceeded, UsageError
from robustbench_med.fast import attackers
from robustbench_med.generators import isolated
from robustbench_med.interfaces import Attack
from robustbench_med.metering import Meter
from robustbench_med.outcome import Climb, Outcome, Verdicts
from robustbench_med.pipeline import Pipeline
from robustbench_med.rungs import surface
from robustbench_med.streams import Stream, seed_of
from robustbench_med.surfaces import View
from robustbench_med.threat import Budget, ThreatModel


@dataclass(frozen=True)
class Step:
    """One attack from one rung of the ladder.

    Attributes:
        name: as shown, ``full apgd-100 orthogonal``.
        access: the rung.
        attack: any attack.
        eot: noise draws averaged in each call of the surface.
        evasion: how the rung `gate` keeps the detector quiet.
        follows_gradient: the attack climbs a gradient, so that diagnostics of gradients apply.
    """

    name: str
    access: str
    attack: Attack
    eot: int = 1
    evasion: str = "orthogonal"
    follows_gradient: bool = True


@dataclass(frozen=True)
class Setting:
    """How the images of a cell are attacked and scored.

    Attributes:
        threat: norm, eps, goal.
        steps: attacks, tried in this order; an image that one has broken is not given to the next.
        num_classes: K, for metrics.
        lesion_class: for metrics and for the goals that name the lesion.
        device: where to work.
        seed: of attack, defense and scoring noise, which come from separate streams.
        draws: fresh noise draws each image is scored on; a deterministic pipeline is scored once.
        batch: images per chunk when each is drawn once; chunks shrink as the draws grow.
        budget: what each attack may spend per image.
        surrogate: the classifier that `transfer` attacks.
        stand_in: what `bpda` differentiates in place of the purifier.
        watch: keep the figures that diagnostics need.
        advance: told how many images are done.
    """

    threat: ThreatModel
    steps: Sequence[Step]
    num_classes: int
    lesion_class: int | None
    device: torch.device
    seed: int = 0
    draws: int = 1
    batch: int = 64
    budget: Budget = field(default_factory=Budget)
    surrogate: nn.Module | None = None
    stand_in: str = "identity"
    watch: bool = True
    advance: Callable[[int], None] = lambda done: None

    @property
    def goal_class(self) -> int | None:
        """The class on one side of a goal of two sides."""
        return None if self.threat.goal == "untargeted" else self.lesion_class

    def seen(self, labels: Tensor) -> Tensor:
        """Labels as the adversary sees them: whether it is a lesion, for the goals that name it."""
        return labels if self.goal_class is None else (labels == self.goal_class).long()


def measure(pipeline: Pipeline, split: Split, index: Tensor, setting: Setting) -> Outcome:
    """Attack and score the images of one client.

    Args:
        pipeline: the client's deployed system.
        split: the client's images.
        index: int64 (N,), row of each image in the whole test split; random streams follow it, not the batch.
        setting: the rest.

    Raises:
        OutsideThreatModel: an adversarial image left the ball or [0, 1].
        UsageError: the attack or the rung does not exist for this system (of several steps: none does).
    """
    draws = setting.draws if pipeline.stochastic else 1
    fast = attackers(pipeline)
    chunks: list[Outcome] = []

    def one_chunk(part: slice) -> None:
        x, y = split.images[part].to(setting.device), split.labels[part].to(setting.device)
        ids = index[part].to(setting.device)
        scoring = Stream.named("scoring", setting.seed, ids)
        with isolated(seed_of(setting.seed, "scoring", *ids[:1].tolist())):
            before = pipeline.decide(x, scoring, draws)
        climbing = _Chunk(pipeline, fast, x, y, ids, setting, draws)
        x_adv = climbing.climb(before)
        with isolated(seed_of(setting.seed, "scoring", *ids[:1].tolist())):
            after = pipeline.decide(x_adv, scoring, draws)
        # Appended last: a chunk that ran out of memory is repeated whole.
        chunks.append(
            Outcome(
                labels=split.labels[part],
                sites=split.sites[part],
                patients=split.patients[part],
                clean=before,
                attacked=after,
                distances=setting.threat.distance(x_adv, x).cpu(),
                climb=tuple(climbing.climbs),
                num_classes=setting.num_classes,
                lesion_class=setting.lesion_class,
                index=index[part],
            )
        )
        setting.advance(len(x))

    in_chunks(len(split), setting.batch, one_chunk)
    return Outcome.join(chunks)


class _Chunk:
    """The attacks on one chunk of images, one step after the other, and the worst image of each."""

    def __init__(
        self, pipeline: Pipeline, fast: Pipeline, x: Tensor, y: Tensor, ids: Tensor, setting: Setting, draws: int
    ) -> None:
        self.pipeline, self.fast, self.x, self.y, self.ids = pipeline, fast, x, y, ids
        self.setting, self.draws = setting, draws
        self.climbs: list[Climb] = []

    def climb(self, before: Verdicts) -> Tensor:
        """Adversarial images like ``x``, inside the ball and [0, 1].

        A single attack's images are taken as they are. Of several attacks, each image keeps what the deployed system
        answered worst, judged on noise that is used for nothing else: choosing by the draws that score would count
        their luck as success.
        """
        every = torch.arange(len(self.x), device=self.x.device)
        if len(self.setting.steps) == 1:
            return self.attack(self.setting.steps[0], every)
        best = self.x.clone()
        # A deterministic system has no luck to choose by: what it answered is what it will answer.
        safe = self._safe(self.x, every) if self.pipeline.stochastic else self._share(before, every)
        refused: list[UsageError] = []
        tried = torch.zeros_like(safe, dtype=torch.bool)
        for step in self.setting.steps:
            rows = (safe > 0).nonzero().flatten()
            if len(rows) == 0:  # all are broken: nobody is asked anything
                self.climbs.append(replace(Climb.idle(step.name, step.access, len(self.x)), safe=safe.cpu().clone()))
                continue
            try:
                x_adv = self.attack(step, rows)
            except UsageError as error:
                refused.append(error)
                self.climbs.append(Climb.refused(step.name, step.access, safe.cpu(), str(error)))
                continue
            found = self._safe(x_adv, rows)
            # Where no attack has an effect, the first one's image stands for what an adversary would send.
            worse = (found < safe[rows]) | ((found == safe[rows]) & ~tried[rows])
            tried[rows] = True
            best[rows[worse]], safe[rows[worse]] = x_adv[worse], found[worse]
            self.climbs[-1] = replace(self.climbs[-1], safe=safe.cpu().clone())
        if len(refused) == len(self.setting.steps):
            raise refused[0]
        return best

    def attack(self, step: Step, rows: Tensor) -> Tensor:
        """One attack on some of the images; what it spent is put aside for `result`."""
        start = time.perf_counter()
        x_adv = self.x[rows].clone()
        climb = Climb.idle(step.name, step.access, len(self.x))
        # Fewer images at once where each is drawn several times, so that a step's memory does not grow with the draws.
        random = self.pipeline.stochastic and step.access not in ("oblivious", "transfer")
        size = max(1, self.setting.batch // (step.eot if random else 1))
        for at in range(0, len(rows), size):
            part = slice(at, at + size)
            x_adv[part], meter = self._attack(step, rows[part])
            climb = climb.with_part(rows[part], meter)
        self.climbs.append(replace(climb, seconds=time.perf_counter() - start))
        return x_adv

    def _attack(self, step: Step, rows: Tensor) -> tuple[Tensor, Meter]:
        setting = self.setting
        x, y = self.x[rows], setting.seen(self.y[rows])
        meter = Meter(x, y, setting.threat, setting.budget, setting.watch)
        view = View(
            pipeline=self.fast, meter=meter, eot=step.eot, goal_class=setting.goal_class, evasion=step.evasion,
            stand_in=setting.stand_in, surrogate=setting.surrogate, chunk=setting.batch,
        )  # fmt: skip
        name = f"{step.access}:{step.evasion}" if step.access == "gate" else step.access
        noise = Stream.named(f"defense-under-attack:{name}", setting.seed, self.ids[rows])
        rng = Stream.named(f"attack:{name}", setting.seed, self.ids[rows])
        with isolated(seed_of(setting.seed, "attack", name, int(self.ids[rows[0]]))):
            try:
                seen = surface(view, step.access, noise)
                x_adv = step.attack.run(seen, x.clone(), y, setting.threat, setting.budget, rng).detach()
            except BudgetExceeded:
                meter.exhausted = True
                x_adv = meter.best
        setting.threat.check(x_adv, x)
        # Removes float rounding only: anything more has just failed the check.
        return setting.threat.project(x_adv, x), meter

    def _safe(self, x: Tensor, rows: Tensor) -> Tensor:
        """Share of draws on which the deployed system withstands, (M,)."""
        stream = Stream.named("selection", self.setting.seed, self.ids[rows])
        with isolated(seed_of(self.setting.seed, "selection", *self.ids[:1].tolist())):
            return self._share(self.pipeline.decide(x, stream, self.draws), rows)

    def _share(self, verdicts: Verdicts, rows: Tensor) -> Tensor:
        return verdicts.safe(self.y[rows].cpu()).float().mean(0).to(self.x.device)
