"""What each adversary sees of a pipeline: ordinary modules from images to logits.

The rungs are those of the access ladder. Any attack library works on a surface unchanged, because a surface is a
plain differentiable module; what differs from rung to rung is what its gradient says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_med.errors import BudgetExceeded
from robustbench_med.interfaces import Surface
from robustbench_med.pipeline import Pipeline
from robustbench_med.streams import Stream
from robustbench_med.threat import Budget


class Meter:
    """Counts passes per image and enforces the budget, whatever library the attack comes from."""

    def __init__(self, images: int, budget: Budget, device: torch.device) -> None:
        self.budget = budget
        self.queries = torch.zeros(images, dtype=torch.int64, device=device)
        self.gradients = torch.zeros(images, dtype=torch.int64, device=device)
        # Kept on the host so that a check costs no device synchronisation.
        self.most_queries = 0
        self.most_gradients = 0

    def forward(self, rows: Tensor, passes: int) -> None:
        """Count forward passes of the images ``rows``."""
        self.most_queries += passes
        if self.budget.queries is not None and self.most_queries > self.budget.queries:
            raise BudgetExceeded(f"the attack wants more than {self.budget.queries} forward passes per image")
        self.queries[rows] += passes

    def backward(self, rows: Tensor, passes: int) -> None:
        """Count backward passes of the images ``rows``."""
        self.most_gradients += passes
        if self.budget.gradients is not None and self.most_gradients > self.budget.gradients:
            raise BudgetExceeded(f"the attack wants more than {self.budget.gradients} gradients per image")
        self.gradients[rows] += passes


class _Metered(torch.autograd.Function):
    """Identity that tells the meter when a gradient comes back."""

    @staticmethod
    def forward(ctx, x: Tensor, meter: Meter, rows: Tensor, passes: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.bill = (meter, rows, passes)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        meter, rows, passes = ctx.bill
        meter.backward(rows, passes)
        return grad, None, None, None


class _StraightThrough(torch.autograd.Function):
    """Forward: the treated images. Backward: as if the treatment had been the identity."""

    @staticmethod
    def forward(ctx, x: Tensor, treated: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return treated.view_as(treated)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        return grad, None


class PipelineSurface(Surface):
    """Common ground of the rungs: metering, noise draws, following a shrinking batch.

    Args:
        pipeline: the deployed system.
        rng: the defense's noise as this adversary samples it, one stream per image; not the stream that scores.
        meter: counts the passes.
        eot: noise draws per call, averaged (Expectation over Transformation, Athalye et al. 2018). The draws run in
            one batch and their logits are averaged, so the gradient is the average over the draws.
        rows: which images of the meter this surface holds.
    """

    def __init__(
        self, pipeline: Pipeline, rng: Stream, meter: Meter, eot: int = 1, rows: Tensor | None = None, calls: int = 0
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.rng = rng
        self.meter = meter
        self.draws = eot
        self.rows = torch.arange(len(rng), device=rng.seeds.device) if rows is None else rows
        self.calls = calls
        self.eval()

    def at(self, index: Tensor) -> Surface:
        """The same surface for some of its images, at the same point of the noise sequence."""
        return type(self)(self.pipeline, self.rng[index], self.meter, self.draws, self.rows[index], self.calls)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) for images in [0, 1], (N, C, H, W)."""
        if len(x) != len(self.rows):
            raise ValueError(
                f"this surface holds {len(self.rows)} images, not {len(x)}; use at(index) for a part of them"
            )
        self.meter.forward(self.rows, self.draws)
        if torch.is_grad_enabled() and x.requires_grad:
            x = _Metered.apply(x, self.meter, self.rows, self.draws)
        rng = self.rng.moment(self.calls).repeat(self.draws)
        self.calls += 1
        logits = self.answer(x.repeat_interleave(self.draws, 0) if self.draws > 1 else x, rng)
        return logits.view(len(x), self.draws, -1).mean(1)

    def answer(self, x: Tensor, rng: Stream) -> Tensor:
        """One draw of the logits for each row of ``x``."""
        raise AssertionError("a rung defines what its adversary sees")


class Oblivious(PipelineSurface):
    """The classifier alone: the adversary does not know that there is a detector or a purifier."""

    @property
    def stop_on_success(self) -> bool:  # type: ignore[override]
        """True for a bare classifier, where the surface is the deployed system."""
        return not self.pipeline.defended

    def answer(self, x: Tensor, rng: Stream) -> Tensor:
        """The classifier's logits."""
        logits: Tensor = self.pipeline.classifier(x)
        return logits


class BPDA(PipelineSurface):
    """Backward Pass Differentiable Approximation (Athalye et al. 2018).

    The forward pass is the whole pipeline, exactly; the backward pass treats gate and purifier as the identity.
    """

    @property
    def stop_on_success(self) -> bool:  # type: ignore[override]
        """True for a deterministic pipeline that cannot reject."""
        rejects = self.pipeline.detector is not None and self.pipeline.purifier is None
        return not self.pipeline.stochastic and not rejects

    def answer(self, x: Tensor, rng: Stream) -> Tensor:
        """The deployed system's logits with the classifier's gradient at the treated image."""
        with torch.no_grad():
            treated = self.pipeline.treat(x, rng).images
        logits: Tensor = self.pipeline.classifier(_StraightThrough.apply(x, treated))
        return logits


RUNGS: dict[str, type[PipelineSurface]] = {"oblivious": Oblivious, "bpda": BPDA}


def surface(pipeline: Pipeline, access: str, rng: Stream, meter: Meter, eot: int = 1) -> PipelineSurface:
    """What an adversary with this ``access`` sees of the pipeline.

    Draws are worth averaging only where the surface is random: on a deterministic one ``eot`` becomes 1.
    """
    rung = RUNGS[access]
    random = pipeline.stochastic and rung is not Oblivious
    return rung(pipeline, rng, meter, eot if random else 1)
