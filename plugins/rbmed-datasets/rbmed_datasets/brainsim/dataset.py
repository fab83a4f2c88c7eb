"""The data sets `brainsim` and `brainsim2`: synthetic brain MRI of four hospitals, first and second edition."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rbmed_datasets import cache
from rbmed_datasets.brainsim import sampling
from rbmed_datasets.brainsim.tumours import KINDS
from rbmed_datasets.brainsim.worker import render_all
from robustbench_med import DataCard, Dataset, Split, home
from robustbench_med.errors import BadParameter

SPLITS = ("train", "calibration", "test")


class Simulated(Dataset):
    """Simulated axial brain MRI; every image is synthetic. See ``docs/brainsim.md``.

    Attributes:
        params: for the simulator.
        graded: the splits tell size and contrast of every lesion.
    """

    params: sampling.Common
    graded: bool = False

    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    def card(self) -> DataCard:
        """The data card; it needs no rendering."""
        classes, edition = self.classes(), self.params.edition
        return DataCard(
            name="brainsim" if edition == 1 else f"brainsim{edition}",
            classes=classes,
            channels=1,
            size=self.params.size,
            licence="Apache-2.0; the atlas is a derivative of ICBM152-2009 (permissive notice in brainsim/data/NOTICE)",
            citation="Fonov et al., NeuroImage 54:313-327, 2011 (ICBM152-2009 atlas)",
            digest=self.params.digest(),
            synthetic=True,
            lesion_class=1 if len(classes) == 2 else None,
            notes=("Synthetic: simulated images; results here say nothing about patients.",),
        )

    def split(self, name: str) -> Split:
        """Images of one split, rendered on first use and cached; patients hospital by hospital.

        Raises:
            BadParameter: unknown split, or no tumour is as visible as the parameters say.
            DataError: the cache cannot be written.
        """
        if name not in SPLITS:
            raise BadParameter(f"{self.card().name} has no split {name!r}; valid: {', '.join(SPLITS)}")
        settings = self.params
        path = home() / "brainsim" / f"{settings.digest()}-{name}.npz"
        names = ["images", "masks", *(["counterfactuals"] if name == "test" else [])]
        names += ["lesions"] if self.graded else []
        bundle = cache.read(path, names)
        if bundle is None:
            bundle = self._render(settings, name)
            cache.save(path, bundle)
        slices = settings.slices_in(name)
        people = [patient for patient in sampling.patients(settings, name) for _ in range(slices)]
        images, others = bundle["images"], bundle.get("counterfactuals")
        lesions = torch.from_numpy(bundle["lesions"]).float() if self.graded else ()
        shape = images.shape
        masks = np.unpackbits(bundle["masks"].ravel(), count=images.size).reshape(shape).astype(bool)
        return Split(
            images=_tensor(images),
            labels=torch.from_numpy(np.repeat(sampling.labels(settings, name), slices)),
            patients=tuple(patient.id for patient in people),
            sites=tuple(patient.site for patient in people),
            masks=torch.from_numpy(masks)[:, None],
            counterfactuals=None if others is None else _tensor(others),
            lesions=dict(zip(("radius", "contrast"), lesions, strict=False)),
        )

    def sites_of(self, split: str) -> tuple[str, ...]:
        """The site of each image, before any is rendered."""
        count = self.params.slices_in(split)
        return tuple(patient.site for patient in sampling.patients(self.params, split) for _ in range(count))

    def _render(self, settings: sampling.Common, name: str) -> dict[str, NDArray[Any]]:
        people, labels = sampling.patients(settings, name), sampling.labels(settings, name)
        count, side = settings.slices_in(name), settings.size
        images, others = (np.zeros((len(people) * count, side, side), dtype=np.uint8) for _ in range(2))
        masks, lesions = np.zeros(images.shape, dtype=bool), np.zeros((2, len(images)))
        jobs = list(zip(people, labels.tolist(), strict=True))
        with self.progress.task(f"{self.card().name} (synthetic): {name}", len(images)) as bar:
            for position, arrays in render_all(settings, jobs):
                rows = slice(position * count, (position + 1) * count)
                images[rows], masks[rows], others[rows], lesions[:, rows] = arrays
                bar.advance(count)
        bundle: dict[str, NDArray[Any]] = {"images": images, "masks": np.packbits(masks)}
        if self.graded:
            bundle["lesions"] = lesions
        # Counterfactuals are used in analyses of the test split only.
        return bundle | {"counterfactuals": others} if name == "test" else bundle


class BrainSim(Simulated):
    """First edition: large tumours of high contrast, tumour or not."""

    Params = sampling.Settings

    def classes(self) -> tuple[str, ...]:
        """Without and with a tumour."""
        return ("no tumour", "tumour")


class BrainSim2(Simulated):
    """Second edition: tumours of graded size and contrast, tumour or not, or which kind of tumour."""

    Params = sampling.Graded
    params: sampling.Graded
    graded = True

    def classes(self) -> tuple[str, ...]:
        """Without and with a tumour, or its kinds."""
        return KINDS if self.params.task == "kind" else ("no tumour", "tumour")


def _tensor(images: NDArray[Any]) -> torch.Tensor:
    return (torch.from_numpy(images).to(torch.float32) / 255)[:, None]
