"""A data set of many patients with hardly any pixels, for partitions."""

from __future__ import annotations

import numpy as np
import torch

from robustbench_med.datasets.clients import partitioned
from robustbench_med.interfaces.dataset import SPLITS, DataCard, Dataset, Split
from robustbench_med.plugins.references import parse


class Toy(Dataset):
    """Patients of 1 to 3 images, shuffled; the classes in the proportions of ``counts``, patients per class."""

    def __init__(self, *counts: int, splits: tuple[int, int, int] = (4, 2, 1)) -> None:
        super().__init__()
        self.counts = counts or (50, 50)
        self.splits = dict(zip(SPLITS, splits, strict=True))
        self.loaded: list[str] = []

    def card(self) -> DataCard:
        names = tuple(f"class-{label}" for label in range(len(self.counts)))
        return DataCard("toy", names, 1, 2, "none", "none", digest="toy", notes=("a note",))

    def split(self, name: str) -> Split:
        self.loaded.append(name)
        chance = np.random.default_rng(len(name))
        labels = np.repeat(np.arange(len(self.counts)), np.array(self.counts) * self.splits[name])
        rows = chance.permutation(np.repeat(np.arange(len(labels)), chance.integers(1, 4, len(labels))))
        images = torch.rand(len(rows), 1, 2, 2, generator=torch.Generator().manual_seed(1))
        patients = tuple(f"{name}-{row}" for row in rows)
        sites = tuple(f"hospital-{row % 3}" for row in rows)
        return Split(
            images,
            torch.from_numpy(labels[rows]),
            patients,
            sites,
            masks=images > 0.5,
            counterfactuals=images,
            lesions={"size": images.flatten(1).sum(1)},
        )


def over_clients(dataset: Dataset, text: str) -> Dataset:
    return partitioned(dataset, parse(text))
