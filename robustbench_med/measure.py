"""Attack one client's images and score the deployed pipeline: tensors in, `Outcome` out.

The harness, not the attack, declares success: it checks norm and range of every adversarial image and lets the
deployed pipeline answer with noise that no attack has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.batching import Upload, in_chunks
from robustbench_med.components import all_params
from robustbench_med.data import Split
from robustbench_med.errors import BudgetExceeded, UsageError
from robustbench_med.fast import accelerated, attackers
from robustbench_med.generators import isolated
from robustbench_med.interfaces import Attack
from robustbench_med.metering import Meter
from robustbench_med.outcome import Climb, Outcome, Verdicts
from robustbench_med.pipeline import Pipeline
from robustbench_med.rungs import surface
from robustbench_med.shared import Shared
from robustbench_med.speed import Speed
from robustbench_med.streams import Stream, seed_of
from robustbench_med.surfaces import PipelineSurface, View
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
        speed: how the attack's passes are sped up.
        shared: where clean predictions and images for transfer are kept for other cells; None keeps none.
        system, borrowed: all that the answers of the deployed system, and of the surrogate, depend on.
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
    speed: Speed = field(default_factory=Speed)
    shared: Shared | None = None
    system: str = ""
    borrowed: str = ""

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
    return Outcome.join([outcome for _, outcome in measured(pipeline, split, index, setting)])


def measured(
    pipeline: Pipeline, split: Split, index: Tensor, setting: Setting, start: int = 0
) -> Iterator[tuple[slice, Outcome]]:
    """As `measure`, chunk by chunk from the image ``start`` on, with the place of each chunk in the split."""
    systems = Systems(pipeline, setting)
    upload = Upload(split.images, setting.device, setting.speed.prefetch)

    def one_chunk(part: slice, size: int) -> Outcome:
        own, x = split.select(torch.arange(part.start, part.stop)), upload(part)
        return _chunk(systems, x, own, index[part].to(setting.device), replace(setting, batch=size))

    yield from in_chunks(len(split), setting.batch, one_chunk, start)


class Systems:
    """The deployed system, and copies of it that attacks work on.

    Args:
        pipeline: the deployed system; it alone scores.
        setting: says how fast the copies are to be.
    """

    def __init__(self, pipeline: Pipeline, setting: Setting) -> None:
        self.deployed = pipeline
        self.exact, self.surrogate = attackers(pipeline), _copy(setting.surrogate, Speed())
        self.fast, self.fast_surrogate = self.exact, self.surrogate
        if setting.speed != Speed(prefetch=setting.speed.prefetch):
            self.fast = attackers(pipeline, setting.speed)
            self.fast_surrogate = _copy(setting.surrogate, setting.speed)


def _copy(surrogate: nn.Module | None, speed: Speed) -> nn.Module | None:
    return None if surrogate is None else accelerated(surrogate, speed)


def _chunk(systems: Systems, x: Tensor, part: Split, ids: Tensor, setting: Setting) -> Outcome:
    """Attack and score some images at once; ``x`` are those of ``part``, on the device."""
    pipeline = systems.deployed
    draws = setting.draws if pipeline.stochastic else 1
    scoring, first = Stream.named("scoring", setting.seed, ids), ids[:1].tolist()

    def decided(images: Tensor) -> Verdicts:
        with isolated(seed_of(setting.seed, "scoring", *first)):
            return pipeline.decide(images, scoring, draws)

    before = _clean(setting, ids, draws, lambda: decided(x))
    climbing = _Chunk(systems, x, part.labels.to(x.device), ids, setting, draws)
    x_adv = climbing.climb(before)
    return Outcome(
        labels=part.labels,
        sites=part.sites,
        patients=part.patients,
        clean=before,
        attacked=decided(x_adv),
        distances=setting.threat.distance(x_adv, x).cpu(),
        climb=tuple(climbing.climbs),
        num_classes=setting.num_classes,
        lesion_class=setting.lesion_class,
        index=ids.cpu(),
    )


def _clean(setting: Setting, ids: Tensor, draws: int, decide: Callable[[], Verdicts]) -> Verdicts:
    """The answers to a chunk of clean images, which every attack on the same system has in common."""
    if setting.shared is None:
        return decide()
    what = ["clean", setting.system, setting.seed, draws, ids.tolist()]
    _, found = setting.shared.get(what, lambda: ({}, {name: getattr(v, name) for v in [decide()] for name in _SIDES}))
    return Verdicts(**found)


_SIDES = tuple(field.name for field in fields(Verdicts))


class _Chunk:
    """The attacks on one chunk of images, one step after the other, and the worst image of each."""

    def __init__(self, systems: Systems, x: Tensor, y: Tensor, ids: Tensor, setting: Setting, draws: int) -> None:
        self.pipeline, self.systems, self.x, self.y, self.ids = systems.deployed, systems, x, y, ids
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
            x_adv[part], meter, repeated = self._settled(step, rows[part])
            climb = replace(climb.with_part(rows[part], meter), repeated=climb.repeated + repeated)
        self.climbs.append(replace(climb, seconds=time.perf_counter() - start))
        return x_adv

    def _settled(self, step: Step, rows: Tensor) -> tuple[Tensor, Meter, int]:
        """An attack's images, what they cost, and how many were attacked again because speed changed a decision."""
        x_adv, meter = self._attack(step, rows, self.setting.speed)
        if self.setting.speed.exact:
            return x_adv, meter, 0
        fast, exact = (
            torch.stack([self._decisions(step, rows, images, speed) for images in (self.x[rows], x_adv)])
            for speed in (self.setting.speed, Speed())
        )
        again = (fast != exact).any(0).nonzero().flatten()
        if len(again):
            x_adv[again], other = self._attack(step, rows[again], Speed())
            meter.repeat(again, other)
        return x_adv, meter, len(again)

    def _decisions(self, step: Step, rows: Tensor, images: Tensor, speed: Speed) -> Tensor:
        """What this adversary sees decided, (M,), at no cost to its budget."""
        setting, ids = replace(self.setting, watch=False, budget=Budget()), self.ids[rows]
        with isolated(seed_of(setting.seed, "confirming", int(ids[0]))), torch.no_grad():
            logits: Tensor = adversary(self.systems, step, self.x[rows], self.y[rows], ids, setting, speed)(images)
        return logits.argmax(1)

    def _attack(self, step: Step, rows: Tensor, speed: Speed) -> tuple[Tensor, Meter]:
        """One attack on images that are all worked on at once."""
        setting, shared = self.setting, self.setting.shared
        x, y = self.x[rows], setting.seen(self.y[rows])
        meter = Meter(x, y, setting.threat, setting.budget, setting.watch)

        def made() -> Tensor:
            with isolated(seed_of(setting.seed, "attack", _name(step), int(self.ids[rows[0]]))):
                try:
                    seen = _surface(self.systems, step, meter, self.ids[rows], setting, speed)
                    rng = Stream.named(f"attack:{_name(step)}", setting.seed, self.ids[rows])
                    x_adv = step.attack.run(seen, x.clone(), y, setting.threat, setting.budget, rng).detach()
                except BudgetExceeded:
                    meter.exhausted = True
                    x_adv = meter.best
            setting.threat.check(x_adv, x)
            # Removes float rounding only: anything more has just failed the check.
            return setting.threat.project(x_adv, x)

        if step.access != "transfer" or shared is None:
            return made(), meter
        # Nothing of the deployed system is seen, so its images serve against every defense.
        facts, tensors = shared.get(self._transferred(step, rows, speed), lambda: meter.as_kept(made()))
        meter.take_kept(facts, tensors)
        return tensors["images"].to(x.device), meter

    def _transferred(self, step: Step, rows: Tensor, speed: Speed) -> list[Any]:
        """All that images made on a surrogate depend on."""
        setting, attack = self.setting, step.attack
        who = [attack.spec_name, attack.spec_revision, type(attack).__qualname__, all_params(attack.params)]
        how = [asdict(setting.threat), asdict(setting.budget), asdict(speed), setting.watch, setting.batch, step.eot]
        return ["transfer", setting.borrowed, who, how, setting.seed, setting.goal_class, self.ids[rows].tolist()]

    def _safe(self, x: Tensor, rows: Tensor) -> Tensor:
        """Share of draws on which the deployed system withstands, (M,)."""
        stream = Stream.named("selection", self.setting.seed, self.ids[rows])
        with isolated(seed_of(self.setting.seed, "selection", *self.ids[:1].tolist())):
            return self._share(self.pipeline.decide(x, stream, self.draws), rows)

    def _share(self, verdicts: Verdicts, rows: Tensor) -> Tensor:
        return verdicts.safe(self.y[rows].cpu()).float().mean(0).to(self.x.device)


def _name(step: Step) -> str:
    """The name of a step's random streams."""
    return f"{step.access}:{step.evasion}" if step.access == "gate" else step.access


def adversary(
    systems: Systems, step: Step, x: Tensor, y: Tensor, ids: Tensor, setting: Setting, speed: Speed | None = None
) -> PipelineSurface:
    """What a step's adversary sees of images (N, C, H, W) with labels and ids, (N,), on a budget of its own."""
    meter = Meter(x, setting.seen(y), setting.threat, setting.budget, setting.watch)
    return _surface(systems, step, meter, ids, setting, setting.speed if speed is None else speed)


def _surface(
    systems: Systems, step: Step, meter: Meter, ids: Tensor, setting: Setting, speed: Speed
) -> PipelineSurface:
    fast = speed == setting.speed
    view = View(
        pipeline=systems.fast if fast else systems.exact,
        surrogate=systems.fast_surrogate if fast else systems.surrogate,
        meter=meter, eot=step.eot, goal_class=setting.goal_class, evasion=step.evasion, stand_in=setting.stand_in,
        chunk=setting.batch, speed=speed,
    )  # fmt: skip
    # The defense's noise as this adversary samples it.
    return surface(view, step.access, Stream.named(f"defense-under-attack:{_name(step)}", setting.seed, ids))
