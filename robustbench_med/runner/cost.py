"""What a cell will cost: passes counted in a trial of its attacks, times the seconds that one pass takes here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from robustbench_med.attacks import huge_eps
from robustbench_med.attacks.accelerate import accelerated_pipeline
from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.choice import DRAWS
from robustbench_med.attacks.controls import CONTROL_SHARE, FULL_LIMIT
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.rung import Rung
from robustbench_med.attacks.target_model import TargetSettings
from robustbench_med.certification.settings import Certification
from robustbench_med.defenses.building import PartBuilder, PartFolders, build_for
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.defenses.resolved import ResolvedDefense, key_of
from robustbench_med.grid.cell import Cell
from robustbench_med.interfaces.dataset import DataCard
from robustbench_med.interfaces.defense import Detector, Purifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.tasks import Task
from robustbench_med.plugins.components import all_params
from robustbench_med.runner.throughput import Figures, Throughput
from robustbench_med.runner.trial import FEW, Calls, count_calls, per_image
from robustbench_med.runtime.isolation import isolated


@dataclass(frozen=True)
class Cost:
    """What a cell takes at most: images that are broken early or not purified take less.

    Attributes:
        gradients, queries: backward and forward passes of the attacks, over all images.
        seconds: about how long, diagnostics included.
    """

    gradients: int
    queries: int
    seconds: float


@dataclass(frozen=True)
class CostInput:
    """A cell with all that its cost depends on.

    Attributes:
        cell: the cell.
        images: how many of each client.
        sample: some of them, (N, C, H, W).
        pipeline: a client's deployed system.
        design: key of the defense's parts and their parameters; cells of equal design take the same time.
        num_classes: K.
        task: of the data set.
        surrogate: that `transfer` attacks.
        insider: the other clients' classifiers, which `insider` attacks.
    """

    cell: Cell
    images: tuple[int, ...]
    sample: Tensor
    pipeline: Pipeline
    design: str
    num_classes: int
    task: Task = "multi-class"
    surrogate: nn.Module | None = None
    insider: nn.Module | None = None


class Costs:
    """Estimates the cost of cells; what cells have in common is tried once.

    Args:
        device: where the cells will run.
        batch: images per chunk.
        diagnostics: off, cheap or full.
        certification: how much is drawn for certificates, if any.
        stamp: of the code and the hardware; figures of earlier plans with the same one are used.

    Attributes:
        trials: attacks that were counted and calls that were timed, not those that earlier plans had tried.
        seconds: that this took.
    """

    def __init__(
        self,
        device: torch.device,
        batch: int,
        diagnostics: str,
        certification: Certification | None = None,
        stamp: str = "",
    ) -> None:
        self.device, self.batch, self.diagnostics, self.certification = device, batch, diagnostics, certification
        self.trials, self.seconds = 0, 0.0
        self._kept = Throughput(stamp)
        self._fast: dict[str, Pipeline] = {}
        self._attacked: dict[str, Tensor] = {}

    def of(self, case: CostInput) -> Cost:
        """The cost of one cell.

        Raises:
            Exception: whatever a part of the defense or an attack raises.
        """
        cell, total = case.cell, sum(case.images)
        rungs = [self._rung(case, rung) for rung in cell.rungs]
        draws = cell.draws if case.pipeline.stochastic else 1
        # Each image is answered before and after; on a ladder also after each round, as is the one kept before it.
        answers, rounds = draws * 2, sum(rung.ref.rounds for rung in cell.rungs)
        if rounds > 1 and case.pipeline.stochastic:
            answers += max(DRAWS, draws) * (1 + 2 * rounds)
        spent = sum(seconds(total, list(case.images)) for _, seconds in rungs) + total * answers * self._answer(
            case, answers
        )
        if self.diagnostics != "off":
            few = sum(map(len, huge_eps.numbers(case.images, cell.rungs)))
            ways = [seconds for rung, (_, seconds) in zip(cell.rungs, rungs, strict=True) if rung.follows_gradient]
            each = math.ceil(few / max(1, len(ways)))
            spent += sum(seconds(each, [1] * min(each, len(case.images))) for seconds in ways)
            spent += 3 * CONTROL_SHARE * total * self._answer(case, answers)
        if (drawn := self.certification) is not None and case.pipeline.purifier is not None:
            # The certificate and the answer to the attacked image, if no other cell has certified the image before.
            samples = 2 * (drawn.n0 + drawn.n)
            spent += total * samples * self._answer(case, samples) / case.pipeline.purifier.votes
        if self.diagnostics == "full":
            again = [min(n, FULL_LIMIT) for n in case.images]
            # Unchanged, half and double eps, another seed, and twice the steps.
            spent += 6 * sum(seconds(sum(again), again) for _, seconds in rungs)
        return Cost(
            gradients=total * sum(calls.gradients for calls, _ in rungs),
            queries=total * sum(calls.queries for calls, _ in rungs),
            seconds=spent,
        )

    def save(self) -> None:
        """Keep what was counted and timed for later plans on this machine."""
        self._kept.save()

    def _tried(self, key: str, trial: Callable[[], Figures]) -> Figures:
        """What an earlier trial with this key found, or else this one."""
        if key not in self._kept:
            start = time.perf_counter()
            self._kept[key] = trial()
            self.trials, self.seconds = self.trials + 1, self.seconds + time.perf_counter() - start
        return self._kept[key]

    def _rung(self, case: CostInput, rung: Rung) -> tuple[Calls, Callable[[int, list[int]], float]]:
        """The passes of one attack, and a function from images in all and by client to seconds."""
        cell, pipeline = case.cell, case.pipeline
        classifier = rung.access in ("oblivious", "boundary")
        noisy = pipeline.classifier.stochastic if classifier else pipeline.stochastic
        draws = rung.eot if noisy and rung.access not in ("transfer", "insider") else 1
        classes = cell.shown_classes(case.num_classes, case.task)
        shape = case.sample.shape[1:]
        query = rung.access == "query"
        attack = [repr(rung.ref.attack), all_params(rung.attack.params)]
        key = key_of([attack, query, repr(cell.threat), repr(cell.budget), list(shape), classes, draws])
        access = "query" if query else "oblivious"
        counted = partial(count_calls, rung.attack, access, cell.threat, cell.budget, shape, classes, draws)
        gradients, queries, own = self._tried(key, lambda: counted().figures)
        calls = Calls(int(gradients), int(queries), draws, own)
        size = max(1, self.batch // draws)
        # The boundary attack asks the system; that some of its queries need the classifier only is left out.
        asked = replace(rung, ref=replace(rung.ref, access="query")) if rung.access == "boundary" else rung
        plain, uses = max(0, calls.queries - calls.gradients), sum(case.images) * rung.ref.rounds / draws
        forward = self._call(case, asked, draws, plain * uses, gradient=False) if plain else 0.0
        backward = self._call(case, rung, draws, calls.gradients * uses, gradient=True) if calls.gradients else 0.0
        each = (calls.gradients * backward + plain * forward) / draws

        def seconds(total: int, by_client: list[int]) -> float:
            once = total * each + calls.seconds * sum(math.ceil(n / size) for n in by_client)
            return rung.ref.rounds * once

        # On the rung `gate` a gradient of the detector's score steers each gradient, and is counted too.
        twice = rung.access == "gate" and rung.evasion != "selective"
        gradients, queries = (1 + twice) * calls.gradients * rung.ref.rounds, calls.queries * rung.ref.rounds
        return replace(calls, gradients=gradients, queries=queries), seconds

    def _call(self, case: CostInput, rung: Rung, draws: int, uses: float, gradient: bool) -> float:
        """Seconds that a call, of which there are ``uses``, takes for each image, all draws together."""
        stand_in, most = case.cell.stand_in, self._batch(case, draws)
        key = self._key(case, rung.access, rung.evasion, draws, stand_in, gradient, most)

        def call(n: int) -> None:
            x = _repeated(self._images(case), n).requires_grad_(gradient)
            y, ids = torch.zeros(n, dtype=torch.int64, device=self.device), torch.arange(n, device=self.device)
            counter = QueryCounter(x.detach(), y, case.cell.threat, case.cell.budget)
            settings = TargetSettings(
                self._fast_pipeline(case),
                counter,
                draws,
                evasion=rung.evasion,
                stand_in=stand_in,
                surrogate=case.surrogate,
                insider=case.insider,
                chunk=self.batch,
            )
            with isolated(0), torch.set_grad_enabled(gradient):
                logits = target_for(settings, rung.access, Stream.named("trial", 0, ids))(x)
                if gradient:
                    torch.autograd.grad(nn.functional.cross_entropy(logits, y), x)

        return self._tried(key, lambda: (per_image(call, most, uses, self.device),))[0]

    def _answer(self, case: CostInput, answers: int) -> float:
        """Seconds that the deployed system takes to answer an image once; each has so many ``answers``."""
        most = self._batch(case, 1)

        def call(n: int) -> None:
            stream = Stream.named("trial", 0, torch.arange(n, device=self.device))
            with isolated(0):
                self._fast_pipeline(case).decide(_repeated(self._images(case), n), stream)

        uses = sum(case.images) * answers
        return self._tried(self._key(case, "answer", most), lambda: (per_image(call, most, uses, self.device),))[0]

    def _batch(self, case: CostInput, draws: int) -> int:
        """Images in a batch of the cell: a power of 4, or a chunk, so that cells of similar sizes share a trial."""
        size, largest = 1, max(case.images, default=1)
        while size < largest:
            size *= 4
        return max(1, min(self.batch // draws, size))

    def _key(self, case: CostInput, *facts: object) -> str:
        """A key of what decides how long a call takes; the threat does where a gate chooses the images to purify."""
        threat = case.cell.threat
        ball = (threat.norm, threat.eps) if case.pipeline.gate is not None else ()
        return key_of([case.design, list(case.sample.shape[1:]), ball, facts])

    def _fast_pipeline(self, case: CostInput) -> Pipeline:
        """The system as attacks run it."""
        if case.design not in self._fast:
            self._fast[case.design] = accelerated_pipeline(case.pipeline)
        return self._fast[case.design]

    def _images(self, case: CostInput) -> Tensor:
        """A few images after one step of an attack: clean ones are seldom flagged, and flagged ones take longest."""
        key = self._key(case, "images")
        if key not in self._attacked:
            clean = case.sample[:FEW].to(self.device)
            x, classifier = clean.clone().requires_grad_(), self._fast_pipeline(case).classifier
            with isolated(0), torch.enable_grad():
                logits = classifier(x)
                (grad,) = torch.autograd.grad(nn.functional.cross_entropy(logits, logits.argmax(1)), x)
            threat = case.cell.threat
            self._attacked[key] = threat.project(clean + threat.eps * grad.sign(), clean)
        return self._attacked[key]


def untrained(resolved: ResolvedDefense, card: DataCard, device: torch.device) -> Pipeline:
    """The system with its initial weights, which takes the same time as a trained one.

    Raises:
        Exception: a part cannot be used before it is fitted.
    """
    builder = PartBuilder(resolved, card, PartFolders({}), device)
    with torch.random.fork_rng(devices=[]):
        classifier = resolved.strategy.classifier(lambda: build_for(resolved.model, card))
    detector, purifier = (part and builder.fresh(part).to(device) for part in (resolved.detector, resolved.purifier))
    gate = None if detector is None else Gate(threshold=0.0, low=0.0, high=1.0)
    return Pipeline(
        classifier.to(device),
        cast("Detector | None", detector),
        cast("Purifier | None", purifier),
        gate,
        resolved.recipe.strength,
    )


def _repeated(images: Tensor, n: int) -> Tensor:
    """``n`` of the images, the first again after the last."""
    return images[torch.arange(n, device=images.device) % len(images)].clone()


def total(costs: Sequence[Cost]) -> Cost:
    """All of them together."""
    return Cost(
        sum(cost.gradients for cost in costs),
        sum(cost.queries for cost in costs),
        sum(cost.seconds for cost in costs),
    )
