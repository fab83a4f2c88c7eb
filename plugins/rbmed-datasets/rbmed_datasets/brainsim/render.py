"""From a patient to 8-bit images: anatomy, sequence, tumour, scanner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets.brainsim.atlas import Bytes, Floats
from rbmed_datasets.brainsim.placing import add_tumour
from rbmed_datasets.brainsim.sampling import Common, Patient, generator
from rbmed_datasets.brainsim.scanner import acquire, resample
from rbmed_datasets.brainsim.scene import Scene
from rbmed_datasets.brainsim.tumours import Tumour


@dataclass(frozen=True, eq=False)
class Rendered:
    """One patient's images.

    Attributes:
        images: uint8 (K, S, S).
        masks: the tumour with its oedema, bool (K, S, S).
        counterfactuals: the same scan without the tumour, uint8 (K, S, S).
        lesions: size and contrast of the tumour in each slice, float64 (K,) each; NaN where there is none. ``radius``
            is that of the disc with the area of the tumour without its oedema, mm; ``contrast`` the mean absolute
            change of the mask's pixels against the counterfactual, for images in [0, 1].
        facts: the nuisance variables, and ``tumour`` (kind or None), ``cnr``, ``draws``.
    """

    images: Bytes
    masks: NDArray[np.bool_]
    counterfactuals: Bytes
    lesions: dict[str, Floats]
    facts: dict[str, Any]


def _mask(share: Floats, size: int) -> NDArray[np.bool_]:
    """The lesion's pixels (K, S, S): those it fills by more than half."""
    covered = resample((share > 0.5).astype(np.float64), size)
    # A lesion smaller than a pixel fills none: it is the pixel that it fills most.
    return np.asarray(covered > np.minimum(0.5, 0.999 * covered.max(axis=(1, 2), keepdims=True)))


def render(settings: Common, patient: Patient, label: int) -> Rendered:
    """All slices of a patient, with a tumour if the label says so, and the same scan without it."""
    scene = Scene(settings, patient)
    anatomy, scan = scene.anatomy, scene.scan
    facts: dict[str, Any] = {
        "sequence": scene.sequence.name,
        "levels": anatomy.levels,
        "scale": anatomy.scale,
        "shift": anatomy.shift,
        "rotation": anatomy.rotation,
        "ventricle": anatomy.ventricle,
        "atrophy": anatomy.atrophy,
        "field_of_view": scan.field_of_view,
        "sigma": scan.sigma,
        "window": scan.window,
        "gamma": scan.gamma,
        "quality": scan.quality,
        "tumour": None,
    }
    healthy = acquire(scene.healthy, scan, scene.ceiling)
    if not settings.kinds(label):
        nothing = np.full(len(healthy), np.nan)
        lesions = {"radius": nothing, "contrast": nothing}
        return Rendered(healthy, np.zeros(healthy.shape, dtype=bool), healthy, lesions, facts)
    rng = generator(settings, "tumour", patient.split, patient.hospital, patient.number)
    tumour, signal, share, seen = add_tumour(scene, rng, label)
    mask = _mask(share, settings.size)
    facts |= {"tumour": tumour.kind, "radius": tumour.radius, **seen}
    images = acquire(signal, scan, scene.ceiling)
    return Rendered(images, mask, healthy, _measured(scene, tumour, images, healthy, mask), facts)


def _measured(
    scene: Scene, tumour: Tumour, images: Bytes, healthy: Bytes, mask: NDArray[np.bool_]
) -> dict[str, Floats]:
    """`Rendered.lesions` of a tumour."""
    change = np.abs(images.astype(np.float64) - healthy) / 255
    pixels = np.maximum(mask.sum(axis=(1, 2)), 1)
    return {"radius": scene.radius(tumour), "contrast": (change * mask).sum(axis=(1, 2)) / pixels}
