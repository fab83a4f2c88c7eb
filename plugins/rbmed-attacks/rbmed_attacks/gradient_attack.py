"""One run of a gradient attack: climb, remember the best image, let broken images leave the batch.

What an attack adds is a `Mover`, which decides where each image goes next. Everything is a tensor over the images
that are still attacked; the only value read back from the device is, with ``leave``, which of them remain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from rbmed_attacks.gradients import differentiate, forward
from rbmed_attacks.losses import Objective
from robustbench_med import TargetModel


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Per image: ``yes`` where the mask (N,) holds, else ``no``."""
    return torch.where(mask.view(-1, *[1] * (yes.dim() - 1)), yes, no)


class PerImage:
    """Holds tensors whose first dimension counts images."""

    def keep(self, index: Tensor) -> None:
        """Forget all images but these."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[index])


@dataclass
class Found:
    """What a run found for each image.

    Attributes:
        best: the image at the highest loss, (N, C, H, W).
        loss: that loss, (N,).
        logits: the target model's logits there, (N, K).
        wrong: the latest iterate with a wrong answer; the start where there was none.
        broken: bool (N,), some iterate had a wrong answer.
    """

    best: Tensor
    loss: Tensor
    logits: Tensor
    wrong: Tensor
    broken: Tensor


class State(PerImage):
    """Where a run stands, for the images still in it; ``rows`` are their places in the batch it began with.

    Attributes:
        now: the current iterate, (M, C, H, W).
        loss, grad: what the target model said of it; ``improved`` says where it is the best so far.
        best, best_loss, best_logits, wrong, broken: as in `Found`.
    """

    def __init__(
        self, x: Tensor, y: Tensor, target: Tensor, now: Tensor, logits: Tensor, loss: Tensor, grad: Tensor
    ) -> None:
        self.rows = torch.arange(len(x), device=x.device)
        self.x, self.y, self.target = x, y, target
        self.now, self.loss, self.grad = now, loss, grad
        self.best, self.best_loss, self.best_logits, self.wrong = now, loss, logits, now
        self.broken = logits.argmax(1) != y
        self.improved = torch.ones_like(self.broken)

    def take(self, logits: Tensor, loss: Tensor) -> None:
        """Take in what the target model says of the current iterate."""
        wrong = logits.argmax(1) != self.y
        self.broken = self.broken | wrong
        self.wrong = choose(wrong, self.now, self.wrong)
        self.loss, self.improved = loss, loss > self.best_loss
        self.best = choose(self.improved, self.now, self.best)
        self.best_loss = choose(self.improved, loss, self.best_loss)
        self.best_logits = choose(self.improved, logits, self.best_logits)


class Mover(PerImage, ABC):
    """Decides where the images go next. Tensors it holds per image are narrowed when images leave."""

    def begin(self, state: State) -> None:
        """Called once, when the start has been evaluated."""

    @abstractmethod
    def move(self, state: State) -> Tensor:
        """The next iterate, from ``state.now`` and ``state.grad``, inside the ball and [0, 1]."""

    def learn(self, state: State) -> None:
        """Called after the new iterate was evaluated; may move ``state.now`` and ``state.grad`` elsewhere."""


def ascend(
    model: TargetModel,
    x: Tensor,
    y: Tensor,
    target: Tensor,
    start: Tensor,
    objective: Objective,
    mover: Mover,
    steps: int,
    leave: bool,
) -> Found:
    """Climb ``objective`` from ``start`` for ``steps`` >= 1 steps: ``steps`` gradients and one more forward pass.

    The target model may answer differently at each call: loss, logits and gradient of an iterate always come from the
    same pass, and no iterate is evaluated twice. With ``leave``, an image leaves the batch at its first wrong answer.
    """
    state = State(x, y, target, start, *differentiate(model, start, lambda logits: objective(logits, y, target)))
    mover.begin(state)
    found, seen = Found(*(tensor.clone() for tensor in _results(state))), model
    for step in range(steps):
        if leave:
            stay = (~state.broken).nonzero().squeeze(1)
            if len(stay) < len(state.rows):
                _store(found, state)
                if len(stay) == 0:
                    return found
                state.keep(stay)
                mover.keep(stay)
                seen = model.at(state.rows)
        state.now = mover.move(state)
        value = partial(_value, objective, state)
        if step == steps - 1:  # Nothing moves on from the last iterate, so it needs no gradient.
            state.take(*forward(seen, state.now, value))
        else:
            logits, loss, state.grad = differentiate(seen, state.now, value)
            state.take(logits, loss)
            mover.learn(state)
    _store(found, state)
    return found


def _value(objective: Objective, state: State, logits: Tensor) -> Tensor:
    return objective(logits, state.y, state.target)


def _results(state: State) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return state.best, state.best_loss, state.best_logits, state.wrong, state.broken


def _store(found: Found, state: State) -> None:
    """Write the images still in the run to their places."""
    for field, tensor in zip(fields(found), _results(state), strict=True):
        getattr(found, field.name)[state.rows] = tensor
