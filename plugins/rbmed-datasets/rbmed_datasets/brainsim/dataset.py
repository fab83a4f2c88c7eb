"""The data set `brainsim`: synthetic brain MRI of four hospitals, tumour or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from rbmed_datasets import cache
from rbmed_datasets.brainsim import sampling
from rbmed_datasets.brainsim.worker import render_all
from robustbench_med import DataCard, Dataset, Split, home
from robustbench_med import Params as BaseParams
from robustbench_med.errors import BadParameter

SPLITS = ("train", "calibration", "test")


class BrainSim(Dataset):
    """Simulated axial brain MRI; every image is synthetic. See ``docs/brainsim.md``."""

    class Params(BaseParams):
        """Parameters of the simulation; every field changes the images."""

        size: int = Field(64, ge=32, le=224, multiple_of=2, description="Side of the images in pixels (even).")
        seed: int = Field(0, ge=0, description="Seed of all patients and scans.")
        train_patients: int = Field(375, ge=1, description="Training patients of each hospital.")
        calibration_patients: int = Field(50, ge=1, description="Calibration patients of each hospital.")
        test_patients: int = Field(20, ge=1, description="Test patients of each hospital.")
        slices: int = Field(4, ge=1, le=8, description="Slices of each patient.")
        gap: int = Field(3, ge=1, le=4, description="Distance between a patient's slices in mm.")
        min_cnr: float = Field(
            5.5, ge=0, le=12, description="Least contrast-to-noise ratio of a tumour against the same scan without it."
        )
        min_area: float = Field(
            1500.0, ge=0, le=3000, description="Least area visibly changed by a tumour in each slice, mm^2."
        )

    @property
    def settings(self) -> sampling.Settings:
        """The parameters for the simulator."""
        return sampling.Settings(**self.params.model_dump())

    def card(self) -> DataCard:
        """The data card; it needs no rendering."""
        return DataCard(
            name="brainsim",
            classes=("no tumour", "tumour"),
            channels=1,
            size=self.params.size,
            licence="Apache-2.0; the atlas is a derivative of ICBM152-2009 (permissive notice in brainsim/data/NOTICE)",
            citation="Fonov et al., NeuroImage 54:313-327, 2011 (ICBM152-2009 atlas)",
            digest=self.settings.digest(),
            synthetic=True,
            lesion_class=1,
            notes=("Synthetic: simulated images of nobody; results here say nothing about patients.",),
        )

    def split(self, name: str) -> Split:
        """Images of one split, rendered on first use and cached; patients hospital by hospital.

        Raises:
            BadParameter: unknown split, or no tumour satisfies ``min_cnr`` and ``min_area``.
            DataError: the cache cannot be written.
        """
        if name not in SPLITS:
            raise BadParameter(f"brainsim has no split {name!r}; valid: {', '.join(SPLITS)}")
        settings = self.settings
        path = home() / "brainsim" / f"{settings.digest()}-{name}.npz"
        names = ("images", "masks", "counterfactuals") if name == "test" else ("images", "masks")
        bundle = cache.read(path, names)
        if bundle is None:
            bundle = self._render(settings, name)
            cache.save(path, bundle)
        people = [patient for patient in sampling.patients(settings, name) for _ in range(settings.slices)]
        images, others = bundle["images"], bundle.get("counterfactuals")
        shape = images.shape
        masks = np.unpackbits(bundle["masks"].ravel(), count=images.size).reshape(shape).astype(bool)
        return Split(
            images=_tensor(images),
            labels=torch.from_numpy(np.repeat(sampling.labels(settings, name), settings.slices)),
            patients=tuple(patient.id for patient in people),
            sites=tuple(patient.site for patient in people),
            masks=torch.from_numpy(masks)[:, None],
            counterfactuals=None if others is None else _tensor(others),
        )

    def _render(self, settings: sampling.Settings, name: str) -> dict[str, NDArray[Any]]:
        people, sick = sampling.patients(settings, name), sampling.labels(settings, name)
        count, side = settings.slices, settings.size
        images, others = (np.zeros((len(people) * count, side, side), dtype=np.uint8) for _ in range(2))
        masks = np.zeros(images.shape, dtype=bool)
        jobs = [(patient, bool(label)) for patient, label in zip(people, sick, strict=True)]
        with self.progress.task(f"brainsim (synthetic): {name}", len(images)) as bar:
            for position, (image, mask, other) in render_all(settings, jobs):
                rows = slice(position * count, (position + 1) * count)
                images[rows], masks[rows], others[rows] = image, mask, other
                bar.advance(count)
        bundle: dict[str, NDArray[Any]] = {"images": images, "masks": np.packbits(masks)}
        # Counterfactuals are used in analyses of the test split only.
        return bundle | {"counterfactuals": others} if name == "test" else bundle


def _tensor(images: NDArray[Any]) -> torch.Tensor:
    return (torch.from_numpy(images).to(torch.float32) / 255)[:, None]
