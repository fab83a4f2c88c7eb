"""Images in memory, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images and what is known of them, in memory.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        patients: (N,) tuple of patient ids; no patient is in two splits.
        sites: (N,) tuple of site (hospital) ids.
        masks: bool (N, 1, H, W), the lesion, or None.
        counterfactuals: float32 like ``images``, the same scan without its lesion, or None.
    """

    images: Tensor
    labels: Tensor
    patients: tuple[str, ...]
    sites: tuple[str, ...]
    masks: Tensor | None = None
    counterfactuals: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Tensor) -> Split:
        """The images at ``index`` (int64), in that order."""
        rows = index.tolist()
        return Split(
            images=self.images[index],
            labels=self.labels[index],
            patients=tuple(self.patients[i] for i in rows),
            sites=tuple(self.sites[i] for i in rows),
            masks=None if self.masks is None else self.masks[index],
            counterfactuals=None if self.counterfactuals is None else self.counterfactuals[index],
        )

    def by_site(self) -> dict[str, Split]:
        """One split per site, sites in sorted order."""
        names = sorted(set(self.sites))
        return {
            name: self.select(torch.tensor([i for i, site in enumerate(self.sites) if site == name])) for name in names
        }


@dataclass(frozen=True)
class DataCard:
    """What `rbmed data show` prints and every record carries.

    Attributes:
        name: registry name.
        classes: class names, in label order.
        channels: image channels.
        size: side of the square images in pixels.
        licence: terms of the images.
        citation: what to cite.
        digest: blake2b hex digest that changes whenever the images, labels or splits change.
        synthetic: True for simulated images; said wherever the data set is named.
        lesion_class: index of the class that means 'lesion present' (sensitivity counts it), or None.
        notes: facts a reader must know, such as a site that was left out and why.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    size: int
    licence: str
    citation: str
    digest: str
    synthetic: bool = False
    lesion_class: int | None = None
    notes: tuple[str, ...] = ()


SPLITS = ("train", "calibration", "test")
