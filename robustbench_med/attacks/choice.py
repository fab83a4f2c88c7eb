"""The worst image found so far for each image, chosen on noise that nothing else uses."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import HarnessError, UsageError, described
from robustbench_med.interfaces.random import Stream, seed_of
from robustbench_med.interfaces.results import Predictions
from robustbench_med.runtime.isolation import isolated

#: Noise draws on which a candidate is compared with the worst image so far.
DRAWS = 8
#: An image is attacked no further when it was wrong on all of at least so many draws.
ENOUGH = 16


class Choice:
    """Keeps the worst candidate for each image of a chunk.

    A system without noise is asked once. Otherwise a candidate and the image kept so far are judged on the same fresh
    draws, and the candidate replaces it if it is wrong on more of them. The kept image's draws add up over the
    comparisons, so that a choice that was lucky once does not stay so: its rate falls back to what it is.

    Args:
        deployed: the deployed system.
        x: clean images, (N, C, H, W), with which the choice begins.
        y: their labels, int64 (N,).
        ids: their rows in the test split, int64 (N,).
        settings: of the evaluation; ``draws`` may ask for more than `DRAWS`.
        clean: the predictions on ``x``.

    Attributes:
        best: the worst image so far, like ``x``.
        tried: bool (N,), an attack was run on the image.
    """

    def __init__(
        self, deployed: Pipeline, x: Tensor, y: Tensor, ids: Tensor, settings: EvaluationSettings, clean: Predictions
    ) -> None:
        self.deployed, self.y, self.ids, self.settings = deployed, y, ids, settings
        self.best, self.tried = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.random = deployed.stochastic
        self.draws = max(DRAWS, settings.draws) if self.random else 1
        self._compared = 0
        # A deterministic system answers the same again, so that its clean predictions serve.
        first = self._wrong(x, torch.arange(len(x), device=x.device)) if self.random else self._lost(clean, y)
        self.wrong, self.judged = first, torch.full_like(first, self.draws)

    @property
    def robust(self) -> Tensor:
        """Share of draws on which the system was robust to the image kept, float32 (N,)."""
        return 1 - self.wrong / self.judged

    def open(self) -> Tensor:
        """The images that are still to be attacked, int64 (M,)."""
        closed = (self.wrong == self.judged) & (self.judged >= (ENOUGH if self.random else 1))
        return (~closed).nonzero().flatten()

    def offer(self, candidates: Tensor, rows: Tensor, continued: bool = False) -> None:
        """Keep each candidate, (M, C, H, W), that is worse than the image kept for ``rows``, int64 (M,).

        Where no attack has an effect, the first one's image is kept: it is what an adversary would send. Candidates
        that ``continued`` from the images kept replace them where they are as bad, so that the next round continues
        from where this one got.
        """
        self._compared += 1
        found = self._wrong(candidates, rows)
        kept = self.wrong[rows]
        # A candidate that is never wrong can only be as bad as an image that never was, which need not be asked again.
        rivals = ((found > 0) | (kept > 0)).nonzero().flatten()
        if self.random and len(rivals):
            again = self._wrong(self.best[rows[rivals]], rows[rivals])
            self.wrong[rows[rivals]] += again
            self.judged[rows[rivals]] += self.draws
            kept[rivals] = again
        worse = (found > kept) | ((found == kept) & (continued | ~self.tried[rows]))
        self.tried[rows] = True
        won = rows[worse]
        self.best[won], self.wrong[won], self.judged[won] = candidates[worse], found[worse], float(self.draws)

    def _wrong(self, images: Tensor, rows: Tensor) -> Tensor:
        """Number of draws on which the images are answered wrongly, float32 (M,); the same noise until `offer`."""
        name = f"selection:{self._compared}" if self._compared else "selection"
        with isolated(seed_of(self.settings.seed, name, *self.ids[:1].tolist())):
            stream = Stream.named(name, self.settings.seed, self.ids[rows])
            try:
                answers = self.deployed.decide(images, stream, self.draws)
            except UsageError as error:  # of an attack it says that there is none for this system, and it is left out
                raise HarnessError(f"the system does not answer attacked images: {described(error)}") from error
            return self._lost(answers, self.y[rows])

    def _lost(self, predictions: Predictions, y: Tensor) -> Tensor:
        return self.settings.goal.lost(predictions, y.cpu()).float().sum(0).to(y.device)
