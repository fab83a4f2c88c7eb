"""From a patient to 8-bit images: anatomy, sequence, tumour, scanner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets.brainsim.anatomy import (
    Anatomy,
    ScanGrid,
    brain_lattice,
    cosine_field,
    draw_anatomy,
    head_coordinates,
    head_signal,
    linear,
    voxel_lattice,
)
from rbmed_datasets.brainsim.atlas import Atlas, Bytes, Floats, load_atlas
from rbmed_datasets.brainsim.distractors import paint
from rbmed_datasets.brainsim.sampling import Patient, Settings, generator
from rbmed_datasets.brainsim.scanner import HOSPITALS, Scan, acquire, draw_scan, fine_size, resample
from rbmed_datasets.brainsim.signal import Sequence, Tissue, draw_sequence, draw_tissues
from rbmed_datasets.brainsim.tumours import Tumour, draw_tumour
from robustbench_med.errors import BadParameter

#: Noise of a human reader (texture, perception), share of the display window, added in quadrature to the scanner's.
READER_NOISE = 0.04
#: Draws of a tumour before the settings are rejected as impossible.
MAX_DRAWS = 200


@dataclass(frozen=True, eq=False)
class Rendered:
    """One patient's images.

    Attributes:
        images: uint8 (K, S, S).
        masks: the tumour with its oedema, bool (K, S, S).
        counterfactuals: the same scan without the tumour, uint8 (K, S, S).
        facts: the nuisance variables, and ``tumour`` (kind or None), ``cnr``, ``draws``.
    """

    images: Bytes
    masks: NDArray[np.bool_]
    counterfactuals: Bytes
    facts: dict[str, Any]


class Scene:
    """One patient on one scanner, before a tumour is added; it does not depend on the label."""

    def __init__(self, settings: Settings, patient: Patient) -> None:
        where = (patient.split, patient.hospital, patient.number)
        hospital = HOSPITALS[patient.hospital]
        self.settings = settings
        self.atlas: Atlas = load_atlas()
        body, scanning = generator(settings, "anatomy", *where), generator(settings, "scan", *where)
        self.anatomy: Anatomy = draw_anatomy(body, self.atlas, settings.slices, settings.gap)
        self.tissues: dict[str, Tissue] = draw_tissues(body)
        name = str(scanning.choice(list(hospital.mix), p=list(hospital.mix.values())))
        self.sequence: Sequence = draw_sequence(scanning, name)
        self.scan: Scan = draw_scan(scanning, hospital, settings.size, settings.slices)
        self.levels = np.asarray(self.anatomy.levels, dtype=np.float64)
        self.side = fine_size(settings.size)
        self.grid = ScanGrid.square(self.side, self.scan.field_of_view)
        index = list(self.anatomy.levels)
        painted = paint(generator(settings, "distractors", *where), self.atlas, self.anatomy)
        maps = [volume[index] / np.float32(255) for volume in (self.atlas.gm, self.atlas.wm)]
        self.planes = np.concatenate([np.stack(maps, axis=-1), painted], axis=-1)
        self.y, self.x = head_coordinates(self.anatomy, self.grid)
        outline = np.stack([self.atlas.distance(k) for k in index])[..., None]
        self.distance = voxel_lattice(self.atlas, self.y, self.x).sample(outline)[0]
        self.head, self.inside = head_signal(self.anatomy, self.distance, self.tissues, self.sequence)
        self.texture = 1 + cosine_field(self.anatomy.texture, self.side)
        self.healthy = self.head + self.inside * self.brain(self.y, self.x)[0]
        self.ceiling = self._ceiling()

    def _ceiling(self) -> float:
        """The signal displayed as white, from the brain without a tumour."""
        seen = (self.healthy * self.scan.bias)[self.inside > 0.9]
        return float(np.quantile(seen[::7], 0.99)) * self.scan.window * self.sequence.headroom

    def brain(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Signal of the brain and share of white matter, (K, H, W), tissue read at atlas positions in mm."""
        lattice = brain_lattice(self.anatomy, self.atlas, y, x)
        gm, wm, gliosis, lacune, vessel = lattice.sample(self.planes)
        csf = np.maximum(1 - gm - wm, 0)
        s = {name: self.sequence.signal(tissue) for name, tissue in self.tissues.items()}
        blood = self.sequence.blood(self.tissues["blood"])
        signal = gm * s["gm"] + wm * s["wm"] + csf * s["csf"]
        signal += gliosis * (s["gliosis"] - signal)
        signal += lacune * (s["csf"] - signal)
        signal += vessel * (blood - signal)
        return signal * self.texture, wm

    def with_tumour(self, tumour: Tumour) -> tuple[Floats, Floats]:
        """Signal with the tumour, and the share of each voxel in tumour and oedema, (K, H, W) each."""
        depth, up, right = tumour.outline(self.grid, self.levels)
        moved = tumour.displacement(depth, self.inside, self.distance)
        dy, dx = linear(self.anatomy, moved * up, moved * right)
        brain, white = self.brain(self.y - dy, self.x - dx)
        living, dead, oedema = tumour.fractions(depth, white)
        a, b, c = tumour.signal(self.sequence)
        share = living + dead + oedema
        inner = brain * (1 - share) + (living * a + dead * b + oedema * c) * self.texture
        return self.head + self.inside * inner, self.inside * share

    def visibility(self, signal: Floats, share: Floats) -> tuple[float, float]:
        """Visibility of a tumour in the slice where it is least visible.

        Returns:
            The contrast-to-noise ratio: mean change against the same scan without the tumour over the lesion, divided
            by the noise of scanner and reader; and the area that changes by more than twice that noise, mm^2.
        """
        gain = self.scan.bias / self.ceiling
        change = np.abs(np.clip(signal * gain, 0, 1) - np.clip(self.healthy * gain, 0, 1))
        noise = float(np.hypot(self.scan.sigma, READER_NOISE))
        lesion = share > 0.5
        pixels = np.maximum(lesion.sum(axis=(1, 2)), 1)
        cnr = (change * lesion).sum(axis=(1, 2)) / pixels / noise
        area = (change > 2 * noise).sum(axis=(1, 2)) * (self.scan.field_of_view / self.side) ** 2
        return float(cnr.min()), float(area.min())


def add_tumour(scene: Scene, rng: np.random.Generator) -> tuple[Tumour, Floats, Floats, dict[str, float]]:
    """Draw tumours until one is visible in every slice; the scene stays as it is.

    Raises:
        BadParameter: no visible tumour in `MAX_DRAWS` draws: the thresholds are too high.
    """
    settings = scene.settings
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


def render(settings: Settings, patient: Patient, sick: bool) -> Rendered:
    """All slices of a patient, with a tumour if ``sick``, and the same scan without it."""
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
    if not sick:
        return Rendered(healthy, np.zeros(healthy.shape, dtype=bool), healthy, facts)
    rng = generator(settings, "tumour", patient.split, patient.hospital, patient.number)
    tumour, signal, share, seen = add_tumour(scene, rng)
    mask = resample((share > 0.5).astype(np.float64), settings.size) > 0.5
    facts |= {"tumour": tumour.kind, "radius": tumour.radius, **seen}
    return Rendered(acquire(signal, scan, scene.ceiling), mask, healthy, facts)
