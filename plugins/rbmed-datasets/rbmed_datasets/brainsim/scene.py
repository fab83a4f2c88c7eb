"""One patient on one scanner: anatomy, tissues, sequence and scan, and what a tumour changes in them."""

from __future__ import annotations

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
from rbmed_datasets.brainsim.atlas import Atlas, Floats, load_atlas
from rbmed_datasets.brainsim.distractors import paint
from rbmed_datasets.brainsim.sampling import Common, Patient, generator
from rbmed_datasets.brainsim.scanner import HOSPITALS, Scan, draw_scan, fine_size
from rbmed_datasets.brainsim.signal import Sequence, Tissue, draw_sequence, draw_tissues
from rbmed_datasets.brainsim.tumours import Tumour

#: Noise of a human reader (texture, perception), share of the display window, added in quadrature to the scanner's.
READER_NOISE = 0.04


class Scene:
    """One patient on one scanner, before a tumour is added; it does not depend on the label."""

    def __init__(self, settings: Common, patient: Patient) -> None:
        where = (patient.split, patient.hospital, patient.number)
        hospital, slices = HOSPITALS[patient.hospital], settings.slices_in(patient.split)
        self.settings = settings
        self.atlas: Atlas = load_atlas()
        body, scanning = generator(settings, "anatomy", *where), generator(settings, "scan", *where)
        self.anatomy: Anatomy = draw_anatomy(body, self.atlas, slices, settings.gap)
        self.tissues: dict[str, Tissue] = draw_tissues(body)
        name = str(scanning.choice(list(hospital.mix), p=list(hospital.mix.values())))
        self.sequence: Sequence = draw_sequence(scanning, name)
        self.scan: Scan = draw_scan(scanning, hospital, settings.size, slices)
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
        # The signal displayed as white, from the brain without a tumour.
        seen = (self.healthy * self.scan.bias)[self.inside > 0.9]
        self.ceiling = float(np.quantile(seen[::7], 0.99)) * self.scan.window * self.sequence.headroom

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
        diseased = tumour.density * (living * a + dead * b + oedema * c)
        inner = brain * (1 - tumour.density * share) + diseased * self.texture
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
        cnr = mean_over(share > 0.5, change) / noise
        area = (change > 2 * noise).sum(axis=(1, 2)) * (self.scan.field_of_view / self.side) ** 2
        return float(cnr.min()), float(area.min())

    def contrast(self, signal: Floats, share: Floats) -> float:
        """Mean absolute change by a tumour before the scan, relative to white, in the slice where it is least.

        Without the limit at white it is nearly proportional to the tumour's density.
        """
        change = np.abs(signal - self.healthy) * (self.scan.bias / self.ceiling)
        return float(mean_over(share > 0.5, change).min())

    def radius(self, tumour: Tumour) -> Floats:
        """Radius in each slice of the disc with the area of the tumour without its oedema, mm, (K,)."""
        depth, _, _ = tumour.outline(self.grid, self.levels)
        area = ((depth < 0) * self.inside).sum(axis=(1, 2)) * (self.scan.field_of_view / self.side) ** 2
        return np.asarray(np.sqrt(area / np.pi))


def mean_over(lesion: NDArray[np.bool_], change: Floats) -> Floats:
    """Mean of ``change`` over the lesion in each slice, (K,); 0 where the slice misses it."""
    return np.asarray((change * lesion).sum(axis=(1, 2)) / np.maximum(lesion.sum(axis=(1, 2)), 1))
