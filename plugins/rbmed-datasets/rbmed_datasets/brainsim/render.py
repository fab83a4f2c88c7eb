"""From a patient to 8-bit images: anatomy, sequence, tumour, scanner.

A tumour is drawn until it is visible (first edition), or at a drawn size and contrast (second).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets.brainsim.atlas import Bytes, Floats
from rbmed_datasets.brainsim.sampling import Common, Graded, Patient, Settings, generator
from rbmed_datasets.brainsim.scanner import acquire, resample
from rbmed_datasets.brainsim.scene import Scene
from rbmed_datasets.brainsim.tumours import SWELLING, Tumour, draw_tumour, make_tumour
from robustbench_med.errors import BadParameter


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


#: Draws of a tumour before the settings are rejected as impossible.
MAX_DRAWS = 200
#: Draws of a tumour of given size.
MAX_GRADED_DRAWS = 20


def add_tumour(
    scene: Scene, rng: np.random.Generator, label: int = 1
) -> tuple[Tumour, Floats, Floats, dict[str, float]]:
    """Draw tumours until one is visible in every slice; the scene stays as it is.

    Returns:
        The tumour, the signal with it, the share of each voxel in it, and facts about the draw.

    Raises:
        BadParameter: no visible tumour in `MAX_DRAWS` draws: the thresholds are too high.
    """
    settings = scene.settings
    if isinstance(settings, Graded):
        return _add_graded(scene, settings, rng, label)
    if not isinstance(settings, Settings):
        raise TypeError(f"no tumours for {type(settings).__name__}")
    for draw in range(1, MAX_DRAWS + 1):
        tumour = draw_tumour(rng, scene.atlas, scene.anatomy, scene.tissues)
        signal, share = scene.with_tumour(tumour)
        cnr, area = scene.visibility(signal, share)
        if cnr >= settings.min_cnr and area >= settings.min_area:
            return tumour, signal, share, {"cnr": cnr, "area": area, "draws": draw}
    raise BadParameter(
        f"brainsim: no tumour with min_cnr={settings.min_cnr} and min_area={settings.min_area} mm^2 "
        f"in {MAX_DRAWS} draws; lower them"
    )


def _add_graded(
    scene: Scene, settings: Graded, rng: np.random.Generator, label: int
) -> tuple[Tumour, Floats, Floats, dict[str, float]]:
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
    signal, share = scene.with_tumour(tumour)
    return tumour, signal, share, {"target": target, "draws": len(found)}
