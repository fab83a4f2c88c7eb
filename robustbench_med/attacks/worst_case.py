"""The attacks of a cell on one chunk of images: a single one, or those of a ladder one after another."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustbench_med.attacks.attacked_system import AttackedSystem, round_name
from robustbench_med.attacks.choice import Choice
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.rung import Rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.errors import BudgetExceeded, OutsideThreatModel, UsageError
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.interfaces.results import Predictions, RungResult
from robustbench_med.interfaces.threat import Budget
from robustbench_med.plugins.components import all_params
from robustbench_med.runtime.isolation import isolated
from robustbench_med.runtime.speed import Speed


@dataclass(frozen=True)
class Attempt:
    """One run of an attack on images that fit into one batch.

    Attributes:
        rung: the attack.
        rows: the images of the chunk, int64 (M,).
        number: of the round.
        start: worst images so far, (M, C, H, W).
    """

    rung: Rung
    rows: Tensor
    number: int = 0
    start: Tensor | None = None

    def at(self, index: Tensor) -> Attempt:
        """The same for some of its images."""
        return replace(self, rows=self.rows[index], start=None if self.start is None else self.start[index])


class WorstCase:
    """Attacks one chunk of images from every rung and keeps the worst image of each.

    Args:
        system: the deployed system and its copies.
        x: clean images, (N, C, H, W).
        y: their labels, int64 (N,).
        ids: their rows in the test split, int64 (N,).
        settings: rungs, threat and the rest.

    Attributes:
        results: what each rung did, in the order of the rungs.
    """

    def __init__(self, system: AttackedSystem, x: Tensor, y: Tensor, ids: Tensor, settings: EvaluationSettings) -> None:
        self.system, self.x, self.y, self.ids, self.settings = system, x, y, ids, settings
        self.results: list[RungResult] = []

    def run(self, clean: Predictions) -> Tensor:
        """Adversarial images like ``x``, inside the ball and [0, 1]; ``clean``: the predictions on ``x``.

        A single attack's images are taken as they are. Of several attacks, or rounds of one, each image keeps the one
        that the deployed system answered worst, judged on noise that is used for nothing else: a choice by the scoring
        draws would count chance as success (selection bias). Attacks that can do so continue from the image kept.
        """
        every, rungs = torch.arange(len(self.x), device=self.x.device), self.settings.rungs
        if len(rungs) == 1 and rungs[0].ref.rounds == 1:
            result, x_adv = self.attack(rungs[0], every)
            self.results.append(result)
            return x_adv
        choice = Choice(self.system.deployed, self.x, self.y, self.ids, self.settings, clean)
        refused: list[UsageError] = []
        for rung in rungs:
            try:
                self.results.append(self._rounds(rung, choice))
            except UsageError as error:
                refused.append(error)
                self.results.append(RungResult.not_run(rung.name, rung.access, choice.robust.cpu(), str(error)))
        if len(refused) == len(rungs):
            raise refused[0]
        return choice.best

    def _rounds(self, rung: Rung, choice: Choice) -> RungResult:
        """All rounds of a rung, each on the images that are not broken yet."""
        result = RungResult.not_run(rung.name, rung.access, choice.robust.cpu())
        for number in range(rung.ref.rounds):
            rows = choice.open()
            if len(rows) == 0:  # parts need not know empty batches
                break
            result, x_adv = self.attack(rung, rows, result, number, choice.best[rows])
            choice.offer(x_adv, rows, rung.attack.warm)
            result = result.after_round(choice.robust.cpu())
        return result

    def attack(
        self,
        rung: Rung,
        rows: Tensor,
        result: RungResult | None = None,
        number: int = 0,
        start: Tensor | None = None,
    ) -> tuple[RungResult, Tensor]:
        """One attack on some of the images: what it spent, added to ``result``, and its images.

        Args:
            rung: the attack.
            rows: the images, int64 (M,).
            result: of the rounds before, if any.
            number: of the round.
            start: worst images so far, (M, C, H, W).
        """
        began, result = time.perf_counter(), result or RungResult.empty(rung.name, rung.access, len(self.x))
        x_adv = self.x[rows].clone()
        # Fewer images at once where each is drawn several times, so that memory does not grow with the draws.
        draws = rung.eot if self.system.deployed.stochastic and rung.sees_defense else 1
        size = max(1, self.settings.batch // draws)
        for at in range(0, len(rows), size):
            part = slice(at, at + size)
            attempt = Attempt(rung, rows[part], number, None if start is None else start[part])
            try:
                x_adv[part], counter, repeated = self._confirmed_attack(attempt)
            finally:  # also of an attack that raised: the next one would meet other networks
                self.system.check_unchanged(rung)
            result = replace(_with_counts(result, rows[part], counter), repeated=result.repeated + repeated)
        return replace(result, seconds=result.seconds + time.perf_counter() - began), x_adv

    def _confirmed_attack(self, attempt: Attempt) -> tuple[Tensor, QueryCounter, int]:
        """An attack's images, its counter, and how many images were attacked again in float32.

        These are the images on which the faster passes decide differently.
        """
        x_adv, counter = self._attack(attempt, self.settings.speed)
        if self.settings.speed.exact:
            return x_adv, counter, 0
        fast, exact = (
            torch.stack([self._decisions(attempt, images, speed) for images in (self.x[attempt.rows], x_adv)])
            for speed in (self.settings.speed, Speed())
        )
        again = (fast != exact).any(0).nonzero().flatten()
        if len(again):
            x_adv[again], other = self._attack(attempt.at(again), Speed())
            counter.repeat(again, other)
        return x_adv, counter, len(again)

    def _decisions(self, attempt: Attempt, images: Tensor, speed: Speed) -> Tensor:
        """The classes that the rung's target model predicts, int64 (M,), without cost to the budget."""
        settings, rows = replace(self.settings, watch=False, budget=Budget()), attempt.rows
        counter, ids = settings.counter(self.x[rows], self.y[rows]), self.ids[rows]
        with isolated(seed_of(settings.seed, "confirming", int(ids[0]))), torch.no_grad():
            logits: Tensor = self.system.target(attempt.rung, counter, ids, settings, speed)(images)
        return logits.argmax(1)

    def _attack(self, attempt: Attempt, speed: Speed) -> tuple[Tensor, QueryCounter]:
        """One attack on images that fit into one batch."""
        settings, shared, rows = self.settings, self.settings.shared, attempt.rows
        counter = settings.counter(self.x[rows], self.y[rows])
        if attempt.rung.access != "transfer" or shared is None:
            return self._checked_images(attempt, counter, speed), counter
        # An attack on the surrogate sees nothing of the deployed system, so its images serve against every defense.
        facts, tensors = shared.get(
            self._transfer_key(attempt, speed),
            lambda: counter.saved(self._checked_images(replace(attempt, start=None), counter, speed)),
        )
        counter.restore(facts, tensors)
        return tensors["images"].to(self.x.device), counter

    def _checked_images(self, attempt: Attempt, counter: QueryCounter, speed: Speed) -> Tensor:
        """The attack's images, checked against the threat model; the best so far where the budget ran out."""
        settings, rung, ids, x = self.settings, attempt.rung, self.ids[attempt.rows], counter.x
        stream = rung.stream + round_name(attempt.number)
        with isolated(seed_of(settings.seed, "attack", stream, int(ids[0]))):
            try:
                target = self.system.target(rung, counter, ids, settings, speed, attempt.start, attempt.number)
                rng = Stream.named(f"attack:{stream}", settings.seed, ids)
                x_adv = rung.attack.run(target, x.clone(), counter.y.clone(), settings.threat, settings.budget, rng)
            except BudgetExceeded:
                counter.exhausted = True
                x_adv = counter.best
        if not isinstance(x_adv, Tensor):
            raise OutsideThreatModel(f"the attack returned a {type(x_adv).__name__}, not images")
        if x_adv.is_complex() or x_adv.is_meta or x_adv.layout != torch.strided:
            what = "complex" if x_adv.is_complex() else "meta" if x_adv.is_meta else "sparse"
            raise OutsideThreatModel(f"the attack returned a {what} tensor, not images")
        x_adv = x_adv.detach().to(x)
        settings.threat.check(x_adv, x)
        # Removes float rounding only: anything more has just failed the check.
        return settings.threat.project(x_adv, x)

    def _transfer_key(self, attempt: Attempt, speed: Speed) -> list[Any]:
        """All that images made on a surrogate depend on."""
        settings, rung, attack = self.settings, attempt.rung, attempt.rung.attack
        who = [attack.spec_name, attack.spec_revision, type(attack).__qualname__, all_params(attack.params)]
        threat = [settings.threat.norm, settings.threat.eps, settings.threat.goal, repr(settings.goal)]
        budget, seed = asdict(settings.budget), settings.seed
        how = [threat, budget, asdict(speed), settings.watch, settings.batch, rung.eot, seed]
        later = [attempt.number] * bool(attempt.number)  # each round has noise of its own
        return ["transfer", settings.surrogate_key, who, how, self.ids[attempt.rows].tolist(), *later]


def _with_counts(result: RungResult, rows: Tensor, counter: QueryCounter) -> RungResult:
    """The result after the images ``rows`` were attacked under ``counter``."""
    rows, again = rows.cpu(), result.attacked.any()
    for name in RungResult.PASSES:
        getattr(result, name)[rows] += getattr(counter, name).cpu()
    before = result.attacked[rows]
    result.first[rows] = torch.where(before, result.first[rows], counter.first.cpu())
    result.top[rows] = torch.maximum(result.top[rows], counter.top.cpu())
    result.attacked[rows] = True
    spread = None if counter.spread is None else float(counter.spread)
    return replace(
        result,
        probabilities=counter.watch and counter.spread is not None and bool(counter.probabilities),
        spread=result.spread if again else spread,
        exhausted=result.exhausted or counter.exhausted,
    )
