"""Ancestral sampling through every diffusion time, as published for MedFedPure."""

from __future__ import annotations

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.purifier import RangePurifier, fresh
from rbmed_purifiers.diffusion.walk import Move


class DDPMPurifier(RangePurifier):
    """All t steps of the reverse chain, each with fresh noise (Ho et al. 2020, algorithm 2).

    The variance of a step is that of the posterior given the clean image (beta tilde). The chain of a batch starts at
    its largest t; images with a smaller t join at their time. The images are sorted by t, so the active ones are the
    first rows.
    """

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """One step for each time from the largest down to 1."""
        start = self.times(strength)

        def move(time: int, active: int) -> Move:
            now = torch.full((active,), time, device=start.device)

            def step(z: Tensor, _: Tensor) -> Tensor:
                rows = z[:active]
                mean, variance = self.schedule.posterior(rows, self.epsilon(rows, now), now, now - 1)
                # The noise is indexed by time, not by the number of the step: so it does not depend on the batch.
                return torch.cat([mean + variance.sqrt() * fresh(rng[:active], time, rows), z[active:]])

            return step

        times = start.tolist()  # sorted, highest first; read back once
        return [move(time, sum(each >= time for each in times)) for time in range(times[0], 0, -1)]
