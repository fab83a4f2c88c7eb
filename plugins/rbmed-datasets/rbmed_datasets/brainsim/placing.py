"""How a tumour gets into a scene: drawn until visible (first edition), or at a drawn size and contrast (second)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rbmed_datasets.brainsim.atlas import Floats
from rbmed_datasets.brainsim.sampling import Graded, Settings
from rbmed_datasets.brainsim.scene import Scene
from rbmed_datasets.brainsim.tumours import SWELLING, Tumour, draw_tumour, make_tumour
from robustbench_med.errors import BadParameter

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
