"""Data sets whose patients are assigned to other clients, or without the training images of some sites."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch

from robustbench_med.datasets.client_names import client_names, unknown_site
from robustbench_med.datasets.partition import REVISION, Scheme, _counts, scheme
from robustbench_med.errors import DataError
from robustbench_med.interfaces.dataset import SPLITS, DataCard, Dataset, Split
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.random import seed_of
from robustbench_med.interfaces.tasks import label_counts
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import PartRef


def partitioned(dataset: Dataset, ref: PartRef) -> Dataset:
    """``dataset`` with its patients assigned by the partition ``ref``; ``site`` returns the data set itself.

    Raises:
        BadParameter: the partition is wrong, see `scheme`. Reading a split with fewer patients than clients
            raises `DataError`.
    """
    made = scheme(ref)
    return dataset if made is None else _Partitioned(dataset, ref.name, made)


def without(dataset: Dataset, sites: tuple[str, ...]) -> Dataset:
    """``dataset`` with all images of ``sites`` in the test split, and none in training and calibration.

    Raises:
        DataError: there is no such site, or none would be left to train on.
    """
    if not sites:
        return dataset
    if dataset.card().fold is not None:
        raise DataError(
            f"--unseen-site {', '.join(sites)} tests every image of a site, in each fold again; give a data set "
            "without folds"
        )
    trained = set(dataset.sites_of("train"))
    known = sorted(trained.union(dataset.split("calibration").sites, dataset.split("test").sites))
    name = dataset.card().name
    for site in sites:
        if site not in known:
            raise unknown_site(site, name, known)
    if set(sites) >= trained:
        raise DataError(f"--unseen-site {', '.join(sites)} leaves no site of data set {name!r} to train on")
    return _Without(dataset, tuple(sorted(set(sites))))


class _Wrapped(Dataset):
    """A data set with the images of another one and a different card."""

    def __init__(self, base: Dataset) -> None:
        super().__init__(base.params, base.root, base.progress)
        self.base = base

    def card(self) -> DataCard:
        card = self.base.card()
        facts = "\x1f".join((card.digest, *self.facts()))
        digest = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
        return replace(card, digest=digest, notes=(*card.notes, self.note()))

    def check(self) -> list[str]:
        return self.base.check()

    @abstractmethod
    def facts(self) -> tuple[str, ...]:
        """Facts for the digest besides the digest of the data set."""

    @abstractmethod
    def note(self) -> str:
        """The note on the card."""


class _Partitioned(_Wrapped):
    def __init__(self, base: Dataset, name: str, scheme: Scheme) -> None:
        super().__init__(base)
        self.name = name
        self.scheme = scheme

    def facts(self) -> tuple[str, ...]:
        return ("partition", str(REVISION), self.name, self.scheme.model_dump_json())

    def note(self) -> str:
        others = [f"{key} {value}" for key, value in all_params(self.scheme).items() if key not in ("clients", "seed")]
        settings = ", ".join([*others, f"seed {self.scheme.seed}"])
        return f"clients: {self.scheme.clients} by {self.name} ({settings}), patients reassigned over hospitals"

    def split(self, name: str) -> Split:
        """The split with other sites; raises `DataError` where it has fewer patients than there are clients."""
        split = self.base.split(name)
        clients, seed = self.scheme.clients, self.scheme.seed
        ids, patient = np.unique(np.asarray(split.patients), return_inverse=True)
        if len(ids) < clients:
            card = self.base.card()
            raise DataError(
                f"{clients} clients are too many for the {plural(len(ids), 'patient')} in {name} of {card.name!r}"
            )
        labels = label_counts(split.labels, len(self.base.card().classes)).numpy()
        classes = labels.shape[1]
        held = np.zeros((len(ids), classes))
        np.add.at(held, patient, labels)
        major = held.argmax(axis=1)
        # RandomState is the numpy generator whose stream is guaranteed not to change (NEP 19).
        draw = np.random.RandomState(seed_of(seed, "partition", self.name) % 2**32)
        counts = _counts(self.scheme.shares(classes, draw), np.bincount(major, minlength=classes))
        # By hash, not by generator: a patient's position does not depend on the order of the images.
        order = sorted(range(len(ids)), key=lambda i: (major[i], seed_of(seed, "patients", ids[i])))
        owner = np.empty(len(ids), dtype=np.int64)
        owner[order] = np.repeat(np.tile(np.arange(clients), classes), counts.ravel())
        names = np.array(client_names(clients))
        return replace(split, sites=tuple(names[owner[patient]].tolist()))


class _Without(_Wrapped):
    def __init__(self, base: Dataset, sites: tuple[str, ...]) -> None:
        super().__init__(base)
        self.sites = sites

    def facts(self) -> tuple[str, ...]:
        return ("without", "all in test", *self.sites)

    def note(self) -> str:
        return f"unseen: {', '.join(self.sites)} has no part in training and calibration; all its images are in test"

    def split(self, name: str) -> Split:
        if name != "test":
            return self._of_sites(self.base.split(name), unseen=False)
        # Nobody of these sites is needed for training, so all patients are evaluated, not only a test share.
        others = [self.base.split(other) for other in SPLITS if other != name]
        return joined([self.base.split(name), *(self._of_sites(split, unseen=True) for split in others)])

    def _of_sites(self, split: Split, unseen: bool) -> Split:
        """The images of unseen or of the other sites; patients who are at both are with the others."""
        away = {who for who, site in zip(split.patients, split.sites, strict=True) if site not in self.sites}
        rows = [
            at
            for at, (who, site) in enumerate(zip(split.patients, split.sites, strict=True))
            if (site in self.sites and who not in away if unseen else site not in self.sites)
        ]
        return split.select(torch.tensor(rows, dtype=torch.int64))


def joined(splits: list[Split]) -> Split:
    """The images of all ``splits``, in their order."""
    return Split(
        images=torch.cat([split.images for split in splits]),
        labels=torch.cat([split.labels for split in splits]),
        patients=tuple(who for split in splits for who in split.patients),
        sites=tuple(site for split in splits for site in split.sites),
        masks=_cat([split.masks for split in splits]),
        counterfactuals=_cat([split.counterfactuals for split in splits]),
        lesions={
            name: torch.cat([split.lesions[name] for split in splits])
            for name in splits[0].lesions
            if all(name in split.lesions for split in splits)
        },
    )


def _cat(parts: list[torch.Tensor | None]) -> torch.Tensor | None:
    """All in one; None where one is missing."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) == len(parts) else None
