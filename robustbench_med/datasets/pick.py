"""Which test images a cell looks at."""

from __future__ import annotations

import torch

from robustbench_med.data import Split


def pick(
    test: Split, clients: tuple[str, ...], limit: int | None, goal: str = "untargeted", lesion: int | None = None
) -> torch.Tensor:
    """Rows of the test split to evaluate, int64: the first of every client in turn, until ``limit``.

    Taking clients in turn keeps every client in a small subset. The order within a client is shuffled, the same way
    every time, because neighbouring rows are often slices of one patient. A goal that names the lesion concerns images
    with one (``hide-lesion``) or without (``fake-lesion``).
    """
    turns: dict[str, int] = {}
    keyed = []
    labels = test.labels.tolist()
    shuffled = torch.randperm(len(test), generator=torch.Generator().manual_seed(0)).tolist()
    for row in shuffled:
        site = test.sites[row]
        if site in clients and (goal == "untargeted" or (labels[row] == lesion) == (goal == "hide-lesion")):
            keyed.append((turns.setdefault(site, 0), row))
            turns[site] += 1
    chosen = [row for _, row in sorted(keyed)][:limit]
    return torch.tensor(sorted(chosen), dtype=torch.int64)
