"""Loads data sets and trained defenses and caches them for later cells; may train those without weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import torch

from robustbench_med.datasets.finding import asked as asked_about
from robustbench_med.datasets.loading import open_dataset
from robustbench_med.defenses.artifact import Artifact
from robustbench_med.defenses.deployment import ALL_FINDINGS, Deployment, Question
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.resolved import ResolvedDefense, key_of, resolve_defense
from robustbench_med.defenses.weights import artifact_folder, find_artifact, search
from robustbench_med.interfaces.dataset import Dataset
from robustbench_med.interfaces.training import TrainJob
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Progress, Silent
from robustbench_med.training.train import train
from robustbench_med.training.untrained import ready_seed

Kept = TypeVar("Kept")
#: Number of cached data sets and trained defenses, so that memory does not grow with the grid.
DATASETS, DEPLOYMENTS = 4, 8


class _Recent(OrderedDict[str, Kept]):
    """The most recently used values."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def get_or(self, key: str, make: Callable[[], Kept]) -> Kept:
        """The value of ``key``, computed if it is not cached."""
        if key not in self:
            made = make()
            while len(self) >= self.most:
                self.popitem(last=False)
            self[key] = made
        self.move_to_end(key)
        return self[key]


class Loader:
    """Loads by reference, and caches the most recent results.

    Args:
        registry: of the components.
        device: of the pipelines and of training.
        data_root: folder of the user's images.
        progress: opens progress bars.
        train: train a defense that has no weights, with its seed or 0; without it nothing is ever trained.
    """

    def __init__(
        self,
        registry: Registry,
        device: torch.device,
        data_root: Path | None = None,
        progress: Progress | None = None,
        train: bool = False,
    ) -> None:
        self.registry = registry
        self.device = device
        self.data_root = data_root
        self.progress = progress or Silent()
        self.train = train
        self._datasets = _Recent[Dataset](DATASETS)
        self._deployments = _Recent[Deployment](DEPLOYMENTS)
        self._folders: dict[str, Path] = {}
        self._keys: dict[str, str] = {}

    def resolved(self, ref: TrainedRef) -> ResolvedDefense:
        """The defense's parts, untrained, newly built."""
        return resolve_defense(self.registry, ref.defense, ref.model, ref.strategy, ref.options)

    def dataset(self, ref: TrainedRef, finding: str = "") -> Dataset:
        """The data set, its patients assigned to clients; with the name of a finding, as the question about it.

        Raises:
            BadParameter: there is no such finding.
        """
        return asked_about(self._dataset(ref), finding)

    def _dataset(self, ref: TrainedRef) -> Dataset:
        key = repr((ref.dataset, ref.partition, ref.unseen))
        return self._datasets.get_or(
            key,
            lambda: open_dataset(
                self.registry,
                ref.dataset,
                self.data_root,
                self.progress,
                partition=ref.partition,
                unseen=ref.unseen,
            ),
        )

    def deployment(self, ref: TrainedRef, weights: Path | None = None, asked: Question = ALL_FINDINGS) -> Deployment:
        """The trained defense, as a question ``asked`` it; ``weights``: load from this folder only.

        Raises:
            WeightsError: there are no weights and training is off, or they are corrupt.
        """
        key = self._key(ref, weights)

        def load() -> Deployment:
            resolved, dataset = self.resolved(ref), self.dataset(ref)
            artifact = self.artifact(ref, resolved, dataset, self._folders.get(key, weights))
            self._folders[key] = artifact.folder
            return Deployment(resolved, artifact, dataset, self.device, ref.unseen, asked)

        return self._deployments.get_or(f"{key} {asked}", load)

    def _key(self, ref: TrainedRef, weights: Path | None) -> str:
        """The key of a trained defense; asked for several times for each of thousands of cells."""
        written = repr((ref, weights))
        if written not in self._keys:
            self._keys[written] = key_of([asdict(ref), weights])
        return self._keys[written]

    def forget(self) -> None:
        """Load trained defenses again when they are needed next, the same weights as before."""
        self._deployments.clear()

    def pin(self, ref: TrainedRef, folder: Path) -> None:
        """Use these weights for ``ref``, if the folder exists, even if there are newer ones."""
        if folder.is_dir():
            self._folders.setdefault(self._key(ref, None), folder)

    def artifact(
        self, ref: TrainedRef, resolved: ResolvedDefense, dataset: Dataset, weights: Path | None = None
    ) -> Artifact:
        """The trained parts; put together now where none of them has to be trained, or training is on.

        Raises:
            WeightsError: there are none, or they are corrupt.
        """
        card = dataset.card()
        if weights is not None:
            return find_artifact(resolved, card, weights, ref.seed, ref.command(self.data_root))
        found, _ = search(resolved, card, seed=ref.seed, remake=self.train)
        if found is not None:
            return found
        seed = ready_seed(resolved, card, ref.seed)
        if seed is None and not self.train:
            return find_artifact(resolved, card, None, ref.seed, ref.command(self.data_root))  # raises
        # Resolved again: training fills the parts, and loading needs untrained ones.
        fresh, job = self.resolved(ref), self.job(ref, resolved)
        if seed is not None:
            job = replace(job, seed=seed)
        target = artifact_folder(fresh, card, job.seed)
        return train(fresh, dataset, job, target, ref.unseen, pictures=seed is None)

    def job(self, ref: TrainedRef, resolved: ResolvedDefense) -> TrainJob:
        """The training job of ``ref``."""
        origin = ref.origin(resolved.recipe, self.data_root)
        return TrainJob(seed=ref.seed or 0, device=self.device, progress=self.progress, origin=origin)
