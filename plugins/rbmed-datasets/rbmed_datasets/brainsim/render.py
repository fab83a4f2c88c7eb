"""From a patient to 8-bit images: anatomy, sequence, tumour, scanner.

A tumour is drawn until it is visible (first edition), or at a drawn size and contrast (second).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets.brainsim.atlas import Bytes, Floats
from rbmed_datasets.brainsim.sampling import Common, Graded, Patient, Settings, generator
from rbmed_datasets.brainsim.scanner import acquire, resample
from rbmed_datasets.brainsim.scene import Scene, mean_over
from rbmed_datasets.brainsim.tumours import SWELLING, Tumour, draw_tumour, make_tumour
from robustbench_med.errors import BadParameter


class Rendered(NamedTuple):
    """One patient's images.

    Attributes:
        images: uint8 (K, S, S).
        masks: the tumour with its oedema, bool (K, S, S).
        counterfactuals: the same scan without the tumour, uint8 (K, S, S).
        lesions: radius and contrast of the tumour in each slice, float64 (2, K); NaN where there is none. The radius is
            that of the disc with the area of the tumour without its oedema, mm; the contrast the mean absolute change
            of the mask's pixels against the counterfactual, for images in [0, 1].
    """

    images: Bytes
    masks: NDArray[np.bool_]
    counterfactuals: Bytes
    lesions: Floats


def _mask(share: Floats, size: int) -> NDArray[np.bool_]:
    """The lesion's pixels (K, S, S): those it fills by more than half."""
    covered = resample((share > 0.5).astype(np.float64), size)
    # A lesion smaller than a pixel fills none: it is the pixel that it fills most.
    return np.asarray(covered > np.minimum(0.5, 0.999 * covered.max(axis=(1, 2), keepdims=True)))


def render(settings: Common, patient: Patient, label: int) -> Rendered:
    """All slices of a patient, with a tumour if the label says so, and the same scan without it."""
    scene = Scene(settings, patient)
    healthy = acquire(scene.healthy, scene.scan, scene.ceiling)
    if not settings.kinds(label):
        return Rendered(healthy, np.zeros(healthy.shape, dtype=bool), healthy, np.full((2, len(healthy)), np.nan))
    rng = generator(settings, "tumour", patient.split, patient.hospital, patient.number)
    tumour, signal, share = add_tumour(scene, rng, label)
    mask = _mask(share, settings.size)
    images = acquire(signal, scene.scan, scene.ceiling)
    contrast = mean_over(mask, np.abs(images.astype(np.float64) - healthy) / 255)
    return Rendered(images, mask, healthy, np.stack([scene.radius(tumour), contrast]))


#: Draws of a tumour before the settings are rejected as impossible.
MAX_DRAWS = 200
#: Draws of a tumour of given size.
MAX_GRADED_DRAWS = 20


def add_tumour(scene: Scene, rng: np.random.Generator, label: int = 1) -> tuple[Tumour, Floats, Floats]:
    """Draw tumours until one is visible in every slice; the scene stays as it is.

    Returns:
        The tumour, the signal with it, and the share of each voxel in it.

    Raises:
        BadParameter: no visible tumour in `MAX_DRAWS` draws: the thresholds are too high.
    """
    settings = scene.settings
    if isinstance(settings, Graded):
        return _add_graded(scene, settings, rng, label)
    if not isinstance(settings, Settings):
        raise TypeError(f"no tumours for {type(settings).__name__}")
    for _ in range(MAX_DRAWS):
        tumour = draw_tumour(rng, scene.atlas, scene.anatomy, scene.tissues)
        signal, share = scene.with_tumour(tumour)
        cnr, area = scene.visibility(signal, share)
        if cnr >= settings.min_cnr and area >= settings.min_area:
            return tumour, signal, share
    raise BadParameter(
        f"brainsim: no tumour with min_cnr={settings.min_cnr} and min_area={settings.min_area} mm^2 "
        f"in {MAX_DRAWS} draws; lower them"
    )


def _add_graded(scene: Scene, settings: Graded, rng: np.random.Generator, label: int) -> tuple[Tumour, Floats, Floats]:
    """A tumour of a size that is drawn first, so that its distribution is as stated, and of graded contrast.

    Places and tissues are drawn until the tumour reaches the least contrast for its size, or else the strongest of
    `MAX_GRADED_DRAWS` is taken. The share of diseased tissue is then drawn so that the contrast is uniform between the
    least and what this tumour has at most.
    """
    # Uniform in the area: small tumours are rarer, as otherwise they alone would decide the accuracy.
    radius = float(np.sqrt(rng.uniform(settings.min_radius**2, settings.max_radius**2)))
    least, share_of_range = max(settings.min_contrast, settings.detail / radius), float(rng.random())
    place, kinds = (scene.atlas, scene.anatomy, scene.tissues), settings.kinds(label)
    found: list[tuple[float, Tumour]] = []
    while len(found) < MAX_GRADED_DRAWS and all(full < least for full, _ in found):
        kind = str(rng.choice(kinds))
        low, high = SWELLING[kind]
        # The centre lies near the slices, so that even the smallest tumour meets all of them.
        tumour = make_tumour(rng, *place, kind, radius, (radius * low, radius * high), reach=min(3.0, radius / 4))
        found.append((scene.contrast(*scene.with_tumour(tumour)), tumour))
    full, tumour = max(found, key=lambda each: each[0])
    target = least + share_of_range * (full - least) if full > least else full
    tumour = replace(tumour, density=target / full)
    return tumour, *scene.with_tumour(tumour)
