"""What a cell measured, made up."""

from __future__ import annotations

import torch

from robustbench_med.interfaces.results import Outcome, Predictions, RungResult


def outcome(n: int = 6, draws: int = 2) -> Outcome:
    """Random predictions on ``n`` images."""
    chance = torch.Generator().manual_seed(n)
    shape = (draws, n)

    def decided() -> Predictions:
        return Predictions(
            predictions=torch.randint(2, shape, generator=chance),
            flagged=torch.rand(shape, generator=chance) > 0.5,
            rejected=torch.zeros(shape, dtype=torch.bool),
            scores=torch.rand(shape, generator=chance),
            changed=torch.zeros(shape, dtype=torch.bool),
            purified_rmse=torch.rand(shape, generator=chance),
        )

    return Outcome(
        labels=torch.randint(2, (n,), generator=chance),
        sites=("a",) * n,
        patients=tuple(map(str, range(n))),
        clean=decided(),
        attacked=decided(),
        distances=torch.rand(n, generator=chance),
        num_classes=2,
        lesion_class=1,
        index=torch.arange(n),
        rungs=(RungResult.empty("none", "oblivious", n),),
    )
