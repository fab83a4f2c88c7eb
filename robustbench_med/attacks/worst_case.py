"""The attacks of a cell on one chunk of images: the single one of a plain cell, or those of a ladder in turn."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from robustbench_med.attacks.adversary import Systems, adversary, seen_by, stream_name
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.settings import Setting, Step
from robustbench_med.errors import BudgetExceeded, OutsideThreatModel, UsageError
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.interfaces.results import Predictions, RungResult
from robustbench_med.interfaces.threat import Budget
from robustbench_med.plugins.components import all_params
from robustbench_med.runtime.isolation import isolated
from robustbench_med.runtime.speed import Speed


class WorstCase:
    """The attacks on one chunk of images, one step after the other, and the worst image of each."""

    def __init__(self, systems: Systems, x: Tensor, y: Tensor, ids: Tensor, setting: Setting, draws: int) -> None:
        self.pipeline, self.systems, self.x, self.y, self.ids = systems.deployed, systems, x, y, ids
        self.setting, self.draws = setting, draws
        self.climbs: list[RungResult] = []

    def climb(self, before: Predictions) -> Tensor:
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
                self.climbs.append(
                    replace(RungResult.idle(step.name, step.access, len(self.x)), safe=safe.cpu().clone())
                )
                continue
            try:
                x_adv = self.attack(step, rows)
            except UsageError as error:
                refused.append(error)
                self.climbs.append(RungResult.refused(step.name, step.access, safe.cpu(), str(error)))
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
        climb = RungResult.idle(step.name, step.access, len(self.x))
        # Fewer images at once where each is drawn several times, so that a step's memory does not grow with the draws.
        random = self.pipeline.stochastic and step.access not in ("oblivious", "transfer")
        size = max(1, self.setting.batch // (step.eot if random else 1))
        for at in range(0, len(rows), size):
            part = slice(at, at + size)
            x_adv[part], counter, repeated = self._settled(step, rows[part])
            climb = replace(climb.with_part(rows[part], counter), repeated=climb.repeated + repeated)
        self.climbs.append(replace(climb, seconds=time.perf_counter() - start))
        return x_adv

    def _settled(self, step: Step, rows: Tensor) -> tuple[Tensor, QueryCounter, int]:
        """An attack's images, what they cost, and how many were attacked again because speed changed a decision."""
        x_adv, counter = self._attack(step, rows, self.setting.speed)
        if self.setting.speed.exact:
            return x_adv, counter, 0
        fast, exact = (
            torch.stack([self._decisions(step, rows, images, speed) for images in (self.x[rows], x_adv)])
            for speed in (self.setting.speed, Speed())
        )
        again = (fast != exact).any(0).nonzero().flatten()
        if len(again):
            x_adv[again], other = self._attack(step, rows[again], Speed())
            counter.repeat(again, other)
        return x_adv, counter, len(again)

    def _decisions(self, step: Step, rows: Tensor, images: Tensor, speed: Speed) -> Tensor:
        """What this adversary sees decided, (M,), at no cost to its budget."""
        setting, ids = replace(self.setting, watch=False, budget=Budget()), self.ids[rows]
        with isolated(seed_of(setting.seed, "confirming", int(ids[0]))), torch.no_grad():
            logits: Tensor = adversary(self.systems, step, self.x[rows], self.y[rows], ids, setting, speed)(images)
        return logits.argmax(1)

    def _attack(self, step: Step, rows: Tensor, speed: Speed) -> tuple[Tensor, QueryCounter]:
        """One attack on images that are all worked on at once."""
        setting, shared = self.setting, self.setting.shared
        x, y = self.x[rows], setting.seen(self.y[rows])
        counter = QueryCounter(x, y, setting.threat, setting.budget, setting.watch)

        def made() -> Tensor:
            with isolated(seed_of(setting.seed, "attack", stream_name(step), int(self.ids[rows[0]]))):
                try:
                    seen = seen_by(self.systems, step, counter, self.ids[rows], setting, speed)
                    rng = Stream.named(f"attack:{stream_name(step)}", setting.seed, self.ids[rows])
                    x_adv = step.attack.run(seen, x.clone(), y, setting.threat, setting.budget, rng)
                except BudgetExceeded:
                    counter.exhausted = True
                    x_adv = counter.best
            if not isinstance(x_adv, Tensor):
                raise OutsideThreatModel(f"the attack returned a {type(x_adv).__name__}, not images")
            x_adv = x_adv.detach().to(x)
            setting.threat.check(x_adv, x)
            # Removes float rounding only: anything more has just failed the check.
            return setting.threat.project(x_adv, x)

        if step.access != "transfer" or shared is None:
            return made(), counter
        # Nothing of the deployed system is seen, so its images serve against every defense.
        facts, tensors = shared.get(self._transferred(step, rows, speed), lambda: counter.as_kept(made()))
        counter.take_kept(facts, tensors)
        return tensors["images"].to(x.device), counter

    def _transferred(self, step: Step, rows: Tensor, speed: Speed) -> list[Any]:
        """All that images made on a surrogate depend on."""
        setting, attack = self.setting, step.attack
        who = [attack.spec_name, attack.spec_revision, type(attack).__qualname__, all_params(attack.params)]
        threat = [setting.threat.norm, setting.threat.eps, setting.threat.goal, setting.goal_class]
        how = [threat, asdict(setting.budget), asdict(speed), setting.watch, setting.batch, step.eot, setting.seed]
        return ["transfer", setting.borrowed, who, how, self.ids[rows].tolist()]

    def _safe(self, x: Tensor, rows: Tensor) -> Tensor:
        """Share of draws on which the deployed system withstands, (M,)."""
        stream = Stream.named("selection", self.setting.seed, self.ids[rows])
        with isolated(seed_of(self.setting.seed, "selection", *self.ids[:1].tolist())):
            return self._share(self.pipeline.decide(x, stream, self.draws), rows)

    def _share(self, verdicts: Predictions, rows: Tensor) -> Tensor:
        return verdicts.robust(self.y[rows].cpu()).float().mean(0).to(self.x.device)
