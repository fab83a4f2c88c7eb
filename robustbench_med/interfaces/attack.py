"""Attacks, and what they attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from robustbench_med.interfaces.component import Component

if TYPE_CHECKING:
    from robustbench_med.interfaces.random import Stream
    from robustbench_med.interfaces.threat import Budget, ThreatModel


class TargetModel(nn.Module):
    """What the adversary sees of a pipeline: an ordinary module from images (N, C, H, W) to logits (N, K).

    Its gradients are the ones that adversary would get. ``stop_on_success`` is True where a wrong answer here is a
    wrong answer of the deployed, deterministic system, so that an attack may drop an image once it is broken. It is
    False where the adversary sees only a part of the system, or a random draw of it: then an attack should go on to
    raise the loss. ``draws`` is the number of noise draws that one call averages: each counts against the budget.
    """

    stop_on_success: bool = False
    draws: int = 1

    def each(self, x: Tensor) -> Tensor:
        """The logits of every noise draw, (N, draws, K); calling the target model itself gives their mean, (N, K).

        An attack that averages its loss over the draws averages the gradient over them (EOT, Athalye et al. 2018).
        """
        logits: Tensor = self(x)
        return logits.unsqueeze(1)

    def at(self, index: Tensor) -> TargetModel:
        """The same model for some of the batch's images (int64 indices, shape (M,)), for attacks that drop images."""
        return self

    def flexible(self, x: Tensor) -> nn.Module:
        """The same target model for code that does not say which images it asks about.

        A batch of as many images as ``x``, the clean ones, (N, C, H, W), is taken to be those in order. In a batch of
        any other size each image is recognised as a variant of the nearest clean one.
        """
        return self


class Attack(Component, ABC):
    """An attack. The harness projects, checks norm, range and budget, and scores on the deployed pipeline.

    ``eot`` is the number of noise draws that the attack wants averaged in each call, where its setting fixes it; a run
    may ask for more. ``access`` is what it needs to see, ``gradient``, ``scores``, ``decision`` or ``none``, where that
    depends on its parameters; None: what its spec says.
    """

    eot: int | None = None
    access: str | None = None

    @abstractmethod
    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Return adversarial images.

        Args:
            model: images -> logits; differentiable where the rung allows it.
            x: clean images in [0, 1], (N, C, H, W), on the target model's device.
            y: true labels, int64 (N,).
            threat: norm and eps, in pixel space.
            budget: the harness enforces it; read it to plan the work.
            rng: the attack's own random stream, one per image; never use the global generators.

        Returns:
            Tensor like ``x``. An image that could not be broken is returned at its highest loss.
        """

    def variant(self, num_classes: int, norm: str, random: bool = False) -> str:
        """What really runs on ``num_classes`` classes, such as ``aa-adapted-K2``, for the record; "" if as named.

        ``random``: the target model draws noise and averages several draws.
        """
        return ""
