"""When an attack gives an image up: kept up to the end, its progress would not reach a wrong answer."""

from __future__ import annotations

import torch
from torch import Tensor

#: How much faster than lately an image may still progress; as a rule progress slows down.
PACE = 2.0
#: An image that lacks less than this share of its progress since the start is never given up.
NEAR = 0.25
#: Steps between two looks at which images may leave the batch. On the CPU a look costs nothing; on a GPU the program
#: waits for the device, so that images stay a few steps longer there. Their results no longer change.
LEAVE = {"cpu": 1}
LEAVE_ELSEWHERE = 8


def lags(device: torch.device) -> bool:
    """Whether broken images stay in the batch for some steps."""
    return device.type not in LEAVE


def may_leave(number: int, device: torch.device) -> bool:
    """Whether images may leave the batch before step ``number``, counted from 0."""
    return number % LEAVE.get(device.type, LEAVE_ELSEWHERE) == 0


def looks(steps: int, first: int) -> tuple[int, ...]:
    """After how many of the steps of a run its images are looked at: ``first``, and each time twice as many."""
    places = [first]
    while places[-1] * 2 < steps:
        places.append(places[-1] * 2)
    return tuple(place for place in places if place < steps)


class PerImage:
    """Holds tensors whose first dimension counts images."""

    def keep(self, index: Tensor) -> None:
        """Keep these images only."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[index])
            elif isinstance(value, PerImage):
                value.keep(index)


class Reach(PerImage):
    """Follows one value per image, (N,), that is never falling and at least 0 where the answer is wrong.

    Attributes:
        first, last: the values at the start and at the last look.
        done: steps up to the last look.
        total: steps of the whole run.
    """

    def __init__(self, values: Tensor, total: int, done: int = 0) -> None:
        self.first, self.last, self.done, self.total = values, values, done, total

    def lost(self, values: Tensor, done: int) -> Tensor:
        """bool (N,): images to give up, from their values after ``done`` steps.

        An image stays if it would get to 0 by the end at `PACE` times its pace since the last look, or with `NEAR` of
        its progress since the start. One whose values are not finite stays.
        """
        ahead = PACE * (self.total - done) / (done - self.done) * (values - self.last)
        far = values + torch.maximum(ahead, NEAR * (values - self.first)) < 0
        self.last, self.done = values, done
        return far
