"""A deployed system, and the copies of it that attacks work on."""

from __future__ import annotations

from torch import Tensor, nn

from robustbench_med.attacks.accelerate import accelerated, accelerated_pipeline
from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.features import CleanFeatures
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.rung import Rung
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.attacks.target_model import PipelineTarget, TargetSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import WeightsChanged
from robustbench_med.interfaces.random import Stream
from robustbench_med.runtime.fingerprint import changed, fingerprint
from robustbench_med.runtime.speed import Speed


class AttackedSystem:
    """The deployed system, and exact and fast copies of it and of the classifiers attacked in its place.

    Args:
        pipeline: the deployed system; it alone scores.
        settings: their speed decides how the fast copies are made.
    """

    def __init__(self, pipeline: Pipeline, settings: EvaluationSettings) -> None:
        self.deployed = pipeline
        self.exact, self.surrogate = accelerated_pipeline(pipeline), _copy(settings.surrogate, Speed())
        self.insider = _copy(settings.insider, Speed())
        self.fast, self.fast_surrogate, self.fast_insider = self.exact, self.surrogate, self.insider
        if settings.speed != Speed(prefetch=settings.speed.prefetch):
            self.fast = accelerated_pipeline(pipeline, settings.speed)
            self.fast_surrogate = _copy(settings.surrogate, settings.speed)
            self.fast_insider = _copy(settings.insider, settings.speed)
        clean, exact = settings.clean, self.exact.classifier
        self.clean = None if clean is None else CleanFeatures(exact, clean, settings.device)
        names = ["deployed", "exact", "surrogate", "insider"]
        if self.fast is not self.exact:
            names += ["fast", "fast_surrogate", "fast_insider"]
        self._networks = {name: network for name in names if (network := getattr(self, name)) is not None}
        self._before = fingerprint(self._networks)

    def check_unchanged(self, rung: Rung) -> None:
        """Raise `WeightsChanged` if the attack of a rung has changed the deployed system, a copy or the surrogate."""
        if what := changed(self._before, self._networks):
            raise WeightsChanged(
                f"the networks changed while attack {rung.ref.attack.name!r} ran ({what}): an attack may change images "
                "only, and a network in evaluation mode must not change itself"
            )

    def target(
        self,
        rung: Rung,
        counter: QueryCounter,
        ids: Tensor,
        settings: EvaluationSettings,
        speed: Speed | None = None,
        start: Tensor | None = None,
        number: int = 0,
    ) -> PipelineTarget:
        """What the adversary of a rung sees of the counter's images, which have these ids, int64 (N,).

        Args:
            rung: where it attacks from.
            counter: of the images.
            ids: of the images.
            settings: of the evaluation.
            speed: that of the settings unless given.
            start: the worst images found so far, where the rung is not the first.
            number: of the round; each has noise of its own.
        """
        fast = speed is None or speed == settings.speed
        target = TargetSettings(
            pipeline=self.fast if fast else self.exact,
            surrogate=self.fast_surrogate if fast else self.surrogate,
            insider=self.fast_insider if fast else self.insider,
            clean=self.clean,
            counter=counter,
            eot=rung.eot,
            goal=settings.goal,
            evasion=rung.evasion,
            stand_in=settings.stand_in,
            chunk=settings.batch,
            speed=speed or settings.speed,
        )
        noise = Stream.named(f"defense-under-attack:{rung.stream}{round_name(number)}", settings.seed, ids)
        return target_for(target, rung.access, noise, start)


def round_name(number: int) -> str:
    """What a round adds to the names of random streams; nothing for the first."""
    return f":round {number}" if number else ""


def _copy(classifier: nn.Module | None, speed: Speed) -> nn.Module | None:
    return None if classifier is None else accelerated(classifier, speed)
