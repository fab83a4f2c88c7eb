"""The rungs of the access ladder: one kind of adversary each.

``oblivious`` sees the classifier only; ``transfer`` a surrogate of it; ``insider`` the classifiers of other clients;
``boundary`` the classifier's gradient and the deployed system's answers. ``bpda``, ``gate`` and ``full`` see the whole
deployed system: with an approximate gradient, with those of classifier and detector, and with the exact one; ``query``
only the answers of the deployed system.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_med.attacks.bpda import BPDA
from robustbench_med.attacks.full import Full
from robustbench_med.attacks.gate import GateEvading
from robustbench_med.attacks.target_model import PipelineTarget, TargetSettings
from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.random import Stream
from robustbench_med.plugins.specs import ACCESS


class Oblivious(PipelineTarget):
    """The classifier alone: the adversary does not know that there is a detector or a purifier."""

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Only a classifier that draws noise is random here."""
        return self.settings.pipeline.classifier.stochastic

    @property
    def stop_on_success(self) -> bool:  # type: ignore[override]
        """True for a bare classifier, where the target model is the deployed system."""
        return not self.settings.pipeline.defended and not self.random

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The classifier's logits."""
        return self.classify(x, y)

    def observed(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The classifier's logits: the deployed system's answers are not seen."""
        return self.classify(x, y)


class Boundary(Oblivious):
    """Gradients of the classifier alone, and answers of the deployed system, by which success is judged.

    Enough to evade a detector that compares two answers: at the classifier's decision boundary they cannot differ much.
    """

    stop_on_success = False

    def observed(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits."""
        return self.deployed(x, rng, y)


class Transfer(PipelineTarget):
    """A surrogate classifier trained on the same federation; nothing of the deployed system is seen."""

    random = False
    stop_on_success = False
    sees_classifier = False

    @property
    def other(self) -> nn.Module:
        """The classifier that is attacked in place of the deployed one."""
        if self.settings.surrogate is None:
            raise NotDefined("access 'transfer' needs a surrogate classifier; name one with --surrogate")
        return self.settings.surrogate

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The other classifier's logits."""
        logits = self.other(x)
        return self.seen(logits, y, logits.isfinite().all(1))

    def observed(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The same: answers of the deployed system are not seen."""
        return self.answer(x, rng, y)


class Insider(Transfer):
    """The classifiers of other clients of the federation, their logits averaged.

    An attacker inside the federation holds them, or models like them, but nothing that the target keeps to itself
    (Darzi et al. 2023, arXiv:2310.13893).
    """

    @property
    def other(self) -> nn.Module:
        """The other clients' classifiers."""
        if self.settings.insider is None:
            raise NotDefined("access 'insider' needs the classifiers of other clients, and this system has none")
        return self.settings.insider


class Query(PipelineTarget):
    """The answers of the deployed system and nothing else: a backward pass raises."""

    sees_classifier = False

    def answer(self, x: Tensor, rng: Stream, y: Tensor) -> Tensor:
        """The deployed system's logits, without a graph."""
        logits = self.deployed(x, rng, y)
        wants_gradient = torch.is_grad_enabled() and x.requires_grad
        return _NoGradient.apply(logits, x) if wants_gradient else logits


class _NoGradient(torch.autograd.Function):
    """Forward: the logits. Backward: an error."""

    @staticmethod
    def forward(ctx, logits: Tensor, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        raise NotDefined("access 'query' gives no gradient; use an attack that needs scores or decisions, as square")


#: The target model of each rung.
TARGETS: dict[str, type[PipelineTarget]] = dict(
    zip(ACCESS, (Oblivious, Transfer, Insider, Boundary, BPDA, GateEvading, Full, Query), strict=True)
)


def target_for(settings: TargetSettings, access: str, rng: Stream, start: Tensor | None = None) -> PipelineTarget:
    """The target model of an adversary with this ``access``.

    ``rng``: the defense's noise as it samples it; ``start``: the worst images found so far.
    """
    return TARGETS[access](settings, rng, start=start)
