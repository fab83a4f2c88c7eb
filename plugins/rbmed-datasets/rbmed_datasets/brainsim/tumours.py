"""Tumours: glioma, meningioma and metastasis, with oedema and mass effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rbmed_datasets.brainsim.anatomy import Anatomy, ScanGrid, step, to_scanner
from rbmed_datasets.brainsim.atlas import Atlas, Floats
from rbmed_datasets.brainsim.signal import Sequence, Tissue

KINDS = ("glioma", "meningioma", "metastasis")
#: How common each kind is where the label does not say it.
KIND_SHARES = (0.5, 0.25, 0.25)
#: Radius, mm, and reach of the oedema, mm, by kind.
RADIUS = {"glioma": (18.0, 27.0), "meningioma": (20.0, 27.0), "metastasis": (17.0, 23.0)}
OEDEMA = {"glioma": (8.0, 16.0), "meningioma": (5.0, 12.0), "metastasis": (8.0, 16.0)}
#: Reach of the oedema of the second edition, relative to the radius.
SWELLING = {"glioma": (0.3, 0.65), "meningioma": (0.2, 0.5), "metastasis": (0.4, 0.75)}
#: Share of gliomas and metastases that enhance with a rim around a dead centre; the others are uniform.
RIM_SHARE = 0.85


@dataclass(frozen=True, eq=False)
class Tumour:
    """One tumour in the scanner's coordinates, mm.

    Attributes:
        kind: one of `KINDS`.
        level, y, x: centre; ``level`` is an atlas slice index.
        radius: mean radius.
        lobes: amplitude, phase and twist along the axis of the outline's harmonics 2 to 6, (3, 5).
        oedema: reach of the oedema outside the outline.
        rim: thickness of the living rim; 0 if the whole core is alive.
        push: largest displacement of the surrounding brain.
        tissue: the living part, before contrast agent.
        necrosis: the dead centre.
        swelling: the oedema.
        uptake: contrast agent in the living part, relative to the dose; 0 does not enhance.
        density: share of diseased tissue in the lesion's voxels, the rest is the tissue that was there before.
    """

    kind: str
    level: float
    y: float
    x: float
    radius: float
    lobes: Floats
    oedema: float
    rim: float
    push: float
    tissue: Tissue
    necrosis: Tissue
    swelling: Tissue
    uptake: float
    density: float = 1.0

    def outline(self, grid: ScanGrid, levels: Floats) -> tuple[Floats, Floats, Floats]:
        """Depth outside (positive) or inside (negative) the outline, mm, and the direction (y, x) away from it.

        Shapes (K, H, W), (H, W), (H, W).
        """
        dy, dx = grid.y - self.y, grid.x - self.x
        dz = (levels - self.level)[:, None, None]
        plane = np.hypot(dy, dx)
        angle = np.arctan2(dy, dx)
        amplitude, phase, twist = self.lobes[:, :, None, None, None]
        order = np.arange(2, 2 + self.lobes.shape[1])[:, None, None, None]
        wobble = (amplitude * np.cos(order * angle + phase + twist * dz)).sum(axis=0)
        depth = np.sqrt(plane**2 + dz**2) - self.radius * (1 + wobble)
        safe = np.maximum(plane, 1e-6)
        return depth, dy / safe, dx / safe

    def displacement(self, depth: Floats, inside: Floats, distance: Floats) -> Floats:
        """Outward displacement of the brain at each point, mm, (K, H, W); 0 next to the skull."""
        hold = np.clip(-distance / 12.0, 0.0, 1.0)
        return self.push * np.exp(-np.maximum(depth, 0) / (0.8 * self.radius)) * hold * inside

    def fractions(self, depth: Floats, white: Floats) -> tuple[Floats, Floats, Floats]:
        """Shares of living tumour, dead centre and oedema in the brain tissue of a voxel, (K, H, W) each."""
        core = step(-depth, 2.0)
        dead = step(-depth - self.rim, 2.0) * core if self.rim else np.zeros_like(core)
        falloff = np.clip((self.oedema - depth) / (0.45 * self.oedema), 0.0, 1.0)
        oedema = falloff * (1 - core) * (0.15 + 0.85 * white)
        return core - dead, dead, oedema

    def signal(self, sequence: Sequence) -> tuple[float, float, float]:
        """Signals of living tumour, dead centre and oedema."""
        dose = sequence.gadolinium * self.uptake
        return tuple(  # type: ignore[return-value]
            sequence.signal(t) for t in (self.tissue.enhanced(dose), self.necrosis, self.swelling)
        )


def draw_tumour(rng: np.random.Generator, atlas: Atlas, anatomy: Anatomy, tissues: dict[str, Tissue]) -> Tumour:
    """A large tumour that meets all examined slices; the caller checks whether it is visible there."""
    kind = str(rng.choice(KINDS, p=KIND_SHARES))
    radius = float(rng.uniform(*RADIUS[kind]))
    return make_tumour(rng, atlas, anatomy, tissues, kind, radius, OEDEMA[kind], reach=3.0)


def make_tumour(
    rng: np.random.Generator,
    atlas: Atlas,
    anatomy: Anatomy,
    tissues: dict[str, Tissue],
    kind: str,
    radius: float,
    oedema: tuple[float, float],
    reach: float,
) -> Tumour:
    """A tumour of one kind and size at a random place.

    Args:
        rng: the random stream.
        atlas: the atlas.
        anatomy: the patient.
        tissues: the patient's tissues.
        kind: one of `KINDS`.
        radius: mm.
        oedema: range of the oedema's reach, mm.
        reach: largest distance of the centre from the middle of the examined slices, mm.
    """
    middle = float(np.mean(anatomy.levels))
    index = round(middle)
    distance, brain = atlas.distance(index), atlas.gm[index].astype(np.int64) + atlas.wm[index] > 128
    lateral = np.abs(np.arange(distance.shape[1]) + atlas.origin[2])[None, :]
    if kind == "meningioma":
        allowed = np.abs(distance + 0.7 * radius) < 1.5
    elif kind == "metastasis":
        allowed = brain & (distance < -0.7 * radius) & (distance > -1.7 * radius) & (lateral > 12)
    else:
        allowed = brain & (distance < -0.8 * radius) & (lateral > 14)
    rows, columns = np.nonzero(allowed)
    pick = int(rng.integers(0, len(rows)))
    y, x = to_scanner(anatomy, float(rows[pick] + atlas.origin[1]), float(columns[pick] + atlas.origin[2]))
    rough = {"glioma": 0.11, "meningioma": 0.05, "metastasis": 0.04}[kind]
    count = 5
    amplitude = rough * rng.standard_normal(count) / np.sqrt(np.arange(1, count + 1))
    rim = kind != "meningioma" and rng.random() < RIM_SHARE
    spread = np.exp(0.06 * rng.standard_normal((3, 2)))
    base = tissues[kind], tissues["necrosis"], tissues["oedema"]
    living, dead, swelling = (Tissue(t.pd, t.t1 * a, t.t2 * b) for t, (a, b) in zip(base, spread.tolist(), strict=True))
    enhances = kind != "glioma" or rim
    return Tumour(
        kind=kind,
        level=middle + float(rng.uniform(-reach, reach)),
        y=y,
        x=x,
        radius=radius,
        lobes=np.stack([amplitude, rng.uniform(0, 2 * np.pi, count), rng.uniform(-0.08, 0.08, count)]),
        oedema=float(rng.uniform(*oedema)),
        rim=float(rng.uniform(0.25, 0.5)) * radius if rim else 0.0,
        push=float(rng.uniform(0.15, 0.4)) * radius,
        tissue=living,
        necrosis=dead,
        swelling=swelling,
        uptake=float(rng.uniform(0.8, 1.4)) if enhances else 0.0,
    )
