"""The attacks of a cell on one chunk of images: a single one, or those of a ladder one after another."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from robustbench_med.attacks.attacked_system import AttackedSystem
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


class WorstCase:
    """Attacks one chunk of images from every rung and keeps the worst image of each.

    Args:
        system: the deployed system and its copies.
        x: clean images, (N, C, H, W).
        y: their labels, int64 (N,).
        ids: their rows in the test split, int64 (N,).
        settings: rungs, threat and the rest.
        draws: noise draws on which the deployed system is judged.

    Attributes:
        results: what each rung did, in the order of the rungs.
    """

    def __init__(
        self, system: AttackedSystem, x: Tensor, y: Tensor, ids: Tensor, settings: EvaluationSettings, draws: int
    ) -> None:
        self.system, self.x, self.y, self.ids = system, x, y, ids
        self.settings, self.draws = settings, draws
        self.results: list[RungResult] = []

    def run(self, clean: Predictions) -> Tensor:
        """Adversarial images like ``x``, inside the ball and [0, 1]; ``clean``: the predictions on ``x``.

        A single attack's images are taken as they are. Of several attacks, each image keeps the one that the deployed
        system answered worst, judged on noise that is used for nothing else: a choice by the scoring draws would count
        chance as success (selection bias).
        """
        every, rungs = torch.arange(len(self.x), device=self.x.device), self.settings.rungs
        if len(rungs) == 1:
            return self.attack(rungs[0], every)
        best = self.x.clone()
        # A deterministic system answers the same again, so that its clean predictions serve.
        stochastic = self.system.deployed.stochastic
        robust = self._robustness(self.x, every) if stochastic else self._robust_share(clean, every)
        refused: list[UsageError] = []
        tried = torch.zeros_like(robust, dtype=torch.bool)
        for rung in rungs:
            rows = (robust > 0).nonzero().flatten()
            if len(rows) == 0:  # parts need not know empty batches
                self.results.append(RungResult.not_run(rung.name, rung.access, robust.cpu()))
                continue
            try:
                x_adv = self.attack(rung, rows)
            except UsageError as error:
                refused.append(error)
                self.results.append(RungResult.not_run(rung.name, rung.access, robust.cpu(), str(error)))
                continue
            found = self._robustness(x_adv, rows)
            # Where no attack has an effect, the first one's image is kept: it is what an adversary would send.
            worse = (found < robust[rows]) | ((found == robust[rows]) & ~tried[rows])
            tried[rows] = True
            best[rows[worse]], robust[rows[worse]] = x_adv[worse], found[worse]
            self.results[-1] = replace(self.results[-1], robust=robust.cpu().clone())
        if len(refused) == len(rungs):
            raise refused[0]
        return best

    def attack(self, rung: Rung, rows: Tensor) -> Tensor:
        """One attack on some of the images; what it spent is appended to ``results``."""
        start = time.perf_counter()
        x_adv = self.x[rows].clone()
        result = RungResult.empty(rung.name, rung.access, len(self.x))
        # Fewer images at once where each is drawn several times, so that memory does not grow with the draws.
        draws = rung.eot if self.system.deployed.stochastic and rung.sees_defense else 1
        size = max(1, self.settings.batch // draws)
        for at in range(0, len(rows), size):
            part = slice(at, at + size)
            try:
                x_adv[part], counter, repeated = self._confirmed_attack(rung, rows[part])
            finally:  # also of an attack that raised: the next one would meet other networks
                self.system.check_unchanged(rung)
            result = replace(_with_counts(result, rows[part], counter), repeated=result.repeated + repeated)
        self.results.append(replace(result, seconds=time.perf_counter() - start))
        return x_adv

    def _confirmed_attack(self, rung: Rung, rows: Tensor) -> tuple[Tensor, QueryCounter, int]:
        """An attack's images, its counter, and how many images were attacked again in float32.

        These are the images on which the faster passes decide differently.
        """
        x_adv, counter = self._attack(rung, rows, self.settings.speed)
        if self.settings.speed.exact:
            return x_adv, counter, 0
        fast, exact = (
            torch.stack([self._decisions(rung, rows, images, speed) for images in (self.x[rows], x_adv)])
            for speed in (self.settings.speed, Speed())
        )
        again = (fast != exact).any(0).nonzero().flatten()
        if len(again):
            x_adv[again], other = self._attack(rung, rows[again], Speed())
            counter.repeat(again, other)
        return x_adv, counter, len(again)

    def _decisions(self, rung: Rung, rows: Tensor, images: Tensor, speed: Speed) -> Tensor:
        """The classes that the rung's target model predicts, int64 (M,), without cost to the budget."""
        settings, ids = replace(self.settings, watch=False, budget=Budget()), self.ids[rows]
        counter = settings.counter(self.x[rows], self.y[rows])
        with isolated(seed_of(settings.seed, "confirming", int(ids[0]))), torch.no_grad():
            logits: Tensor = self.system.target(rung, counter, ids, settings, speed)(images)
        return logits.argmax(1)

    def _attack(self, rung: Rung, rows: Tensor, speed: Speed) -> tuple[Tensor, QueryCounter]:
        """One attack on images that fit into one batch."""
        settings, shared = self.settings, self.settings.shared
        counter = settings.counter(self.x[rows], self.y[rows])
        if rung.access != "transfer" or shared is None:
            return self._checked_images(rung, rows, counter, speed), counter
        # An attack on the surrogate sees nothing of the deployed system, so its images serve against every defense.
        facts, tensors = shared.get(
            self._transfer_key(rung, rows, speed),
            lambda: counter.saved(self._checked_images(rung, rows, counter, speed)),
        )
        counter.restore(facts, tensors)
        return tensors["images"].to(self.x.device), counter

    def _checked_images(self, rung: Rung, rows: Tensor, counter: QueryCounter, speed: Speed) -> Tensor:
        """The attack's images, checked against the threat model; the best so far where the budget ran out."""
        settings, ids, x = self.settings, self.ids[rows], counter.x
        with isolated(seed_of(settings.seed, "attack", rung.stream, int(ids[0]))):
            try:
                target = self.system.target(rung, counter, ids, settings, speed)
                rng = Stream.named(f"attack:{rung.stream}", settings.seed, ids)
                x_adv = rung.attack.run(target, x.clone(), counter.y, settings.threat, settings.budget, rng)
            except BudgetExceeded:
                counter.exhausted = True
                x_adv = counter.best
        if not isinstance(x_adv, Tensor):
            raise OutsideThreatModel(f"the attack returned a {type(x_adv).__name__}, not images")
        x_adv = x_adv.detach().to(x)
        settings.threat.check(x_adv, x)
        # Removes float rounding only: anything more has just failed the check.
        return settings.threat.project(x_adv, x)

    def _transfer_key(self, rung: Rung, rows: Tensor, speed: Speed) -> list[Any]:
        """All that images made on a surrogate depend on."""
        settings, attack = self.settings, rung.attack
        who = [attack.spec_name, attack.spec_revision, type(attack).__qualname__, all_params(attack.params)]
        threat = [settings.threat.norm, settings.threat.eps, settings.threat.goal, settings.goal_class]
        budget, seed = asdict(settings.budget), settings.seed
        how = [threat, budget, asdict(speed), settings.watch, settings.batch, rung.eot, seed]
        return ["transfer", settings.surrogate_key, who, how, self.ids[rows].tolist()]

    def _robustness(self, x: Tensor, rows: Tensor) -> Tensor:
        """Share of draws on which the deployed system is robust, float32 (M,), on noise used for nothing else."""
        stream = Stream.named("selection", self.settings.seed, self.ids[rows])
        with isolated(seed_of(self.settings.seed, "selection", *self.ids[:1].tolist())):
            return self._robust_share(self.system.deployed.decide(x, stream, self.draws), rows)

    def _robust_share(self, predictions: Predictions, rows: Tensor) -> Tensor:
        return predictions.robust(self.y[rows].cpu()).float().mean(0).to(self.x.device)


def _with_counts(result: RungResult, rows: Tensor, counter: QueryCounter) -> RungResult:
    """The result after the images ``rows`` were attacked under ``counter``."""
    rows = rows.cpu()
    for name in RungResult.COUNTED:
        getattr(result, name)[rows] = getattr(counter, name).cpu()
    result.attacked[rows] = True
    return replace(
        result,
        probabilities=counter.watch and counter.spread is not None and bool(counter.probabilities),
        spread=None if counter.spread is None else float(counter.spread),
        exhausted=result.exhausted or counter.exhausted,
    )
