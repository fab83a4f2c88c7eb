"""Attacks, and what they attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.component import Component

if TYPE_CHECKING:
    from robustbench_med.interfaces.random import Stream
    from robustbench_med.interfaces.threat import Budget, ThreatModel
    from robustbench_med.plugins.specs import Family


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the true one: positive exactly where the answer is wrong.

    Args:
        logits: (N, K), or of several noise draws (N, D, K).
        y: true classes, int64 (N,).

    Returns:
        (N,) or (N, D). Its gradient has the same direction for logits multiplied by any constant > 0.
    """
    true = y.view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    wrong = logits.scatter(-1, true, -torch.inf).max(-1).values
    return wrong - logits.gather(-1, true).squeeze(-1)


class TargetModel(nn.Module):
    """What the adversary sees of a pipeline: a module from images (N, C, H, W) to logits (N, K).

    Its gradients are those that this adversary gets. ``stop_on_success`` is True where a wrong answer here is a wrong
    answer of the deployed, deterministic system, so that an attack may drop an image once it is broken. It is False
    where the adversary sees only a part of the system, or a random draw of it: then an attack should continue to raise
    the loss. ``random`` is True where two calls may differ, and ``draws`` is the number of noise draws that one call
    averages: each counts against the budget. ``start``
    holds the worst images that earlier attacks have found, like those of the batch, for attacks that can continue from
    them; None where there are none.
    """

    stop_on_success: bool = False
    draws: int = 1
    random: bool = False
    start: Tensor | None = None

    def each(self, x: Tensor) -> Tensor:
        """The logits of every noise draw, (N, draws, K); calling the target model itself gives their mean, (N, K).

        An attack that averages its loss over the draws averages the gradient over them (EOT, Athalye et al. 2018).
        """
        logits: Tensor = self(x)
        return logits.unsqueeze(1)

    @torch.no_grad()
    def success_rate(self, x: Tensor, y: Tensor, draws: int) -> Tensor:
        """Share of at least ``draws`` fresh noise draws on which ``x`` is answered wrongly, float32 (N,).

        The answers are those of the deployed system where the adversary sees it. Each draw is a query.
        """
        logits = torch.cat([self.each(x) for _ in range(-(-draws // self.draws))], 1)
        return (logits.argmax(-1) != y[:, None]).float().mean(1)

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> list[Tensor]:
        """Features (N, F) of the attacked classifier at each named layer, differentiable; one more pass.

        Without names: the input of its last layers. Maps and tokens are averaged over their places. Only for
        adversaries who see the classifier: not on the rungs `transfer`, `insider` and `query`.

        Raises:
            NotDefined: this adversary does not see the classifier, or it offers no features.
            BadParameter: there is no such layer.
        """
        raise NotDefined("this adversary does not see the features of the classifier")

    def clean_features(self, layers: Sequence[str] = ()) -> tuple[list[Tensor], Tensor]:
        """`features` of clean training images that the adversary holds, (M, F) for each layer, and their labels, (M,).

        None of the images under attack is among them. Raises as `features` does.
        """
        raise NotDefined("this adversary does not see the features of the classifier")

    def kinds(self, y: Tensor) -> Tensor:
        """The labels of the batch's images, whose classes are ``y``, in the terms of those of `clean_features`."""
        return y

    def at(self, index: Tensor) -> TargetModel:
        """The same model for some of the batch's images (int64 indices, shape (M,)), for attacks that drop images."""
        return self

    def flexible(self, x: Tensor) -> nn.Module:
        """The same target model for code that does not say which images it queries.

        A batch of as many images as ``x``, the clean ones, (N, C, H, W), is taken to be those in order. In a batch of
        any other size each image counts as a variant of the nearest clean one.
        """
        return self


class Attack(Component, ABC):
    """An attack. The harness projects, checks norm, range and budget, and scores on the deployed pipeline.

    ``eot`` is the number of noise draws to average in each call, where the attack fixes it; a run may ask for more.
    ``access`` is what the attack needs, ``gradient``, ``scores``, ``decision`` or ``none``, where that depends on its
    parameters; None: what its spec says. ``warm`` is True for an attack that continues from `TargetModel.start`.
    ``own_threat`` is the family of changes that the attack searches, and how far (`ThreatModel`), where that is no
    ball: cells with it have this threat model, whatever norm and eps were asked for.
    """

    own_threat: tuple[Family, float] | None = None
    eot: int | None = None
    access: str | None = None
    warm: bool = False

    @abstractmethod
    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Return adversarial images.

        Args:
            model: images -> logits; differentiable where the rung allows it.
            x: clean images in [0, 1], (N, C, H, W), on the target model's device.
            y: true labels, int64 (N,).
            threat: norm and eps, in pixel space.
            budget: enforced by the harness; read it to plan steps and restarts.
            rng: the attack's own random streams, one per image; never use the global generators.

        Returns:
            Tensor like ``x``. An image that could not be broken is returned at its highest loss.
        """

    def variant(self, num_classes: int, norm: str, random: bool = False) -> str:
        """What runs on ``num_classes`` classes, such as ``aa-adapted-K2``, for the record; "" if as named.

        ``random``: the target model draws noise and averages several draws.
        """
        return ""
