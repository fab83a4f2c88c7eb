"""Magnetic resonance signal of tissues: spin-echo and inversion-recovery equations.

Relaxation times are typical values at 1.5 T (Bernstein, King, Zhou: Handbook of MRI Pulse Sequences, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """Proton density (water = 1), T1 and T2 in ms."""

    pd: float
    t1: float
    t2: float

    def enhanced(self, concentration: float) -> Tissue:
        """With ``concentration`` mM of a gadolinium agent (relaxivities 4.5 and 5.5 per s and mM)."""
        return replace(
            self,
            t1=1 / (1 / self.t1 + 4.5e-3 * concentration),
            t2=1 / (1 / self.t2 + 5.5e-3 * concentration),
        )


TISSUES = {
    "gm": Tissue(0.82, 950, 100),
    "wm": Tissue(0.70, 600, 78),
    "csf": Tissue(1.00, 4200, 1800),
    "bone": Tissue(0.10, 400, 8),
    "marrow": Tissue(0.50, 400, 60),
    "muscle": Tissue(0.72, 950, 45),
    "fat": Tissue(0.75, 270, 75),
    "gliosis": Tissue(0.86, 1300, 190),
    "blood": Tissue(0.80, 1400, 180),
    "oedema": Tissue(0.90, 1650, 250),
    "glioma": Tissue(0.92, 1800, 250),
    "meningioma": Tissue(0.92, 1600, 240),
    "metastasis": Tissue(0.90, 1650, 210),
    "necrosis": Tissue(0.97, 2900, 600),
}


#: Share of flowing blood that is still in the slice at acquisition, without contrast agent; the rest is a flow void.
FLOW_VOID = 0.35


@dataclass(frozen=True)
class Sequence:
    """A pulse sequence.

    Attributes:
        name: key in `SEQUENCES`.
        tr: repetition time, ms.
        te: echo time, ms.
        ti: inversion time, ms; 0 without inversion (spin echo).
        gadolinium: dose, mM in the blood; 0 without contrast agent.
        headroom: factor on the upper end of the display, for sequences with signal brighter than healthy brain.
    """

    name: str
    tr: float
    te: float
    ti: float = 0.0
    gadolinium: float = 0.0
    headroom: float = 1.0

    def signal(self, tissue: Tissue) -> float:
        """Magnitude of the tissue's signal, in units of the proton density of water."""
        recovery = np.exp(-self.tr / tissue.t1)
        longitudinal = abs(1 - 2 * np.exp(-self.ti / tissue.t1) + recovery) if self.ti else 1 - recovery
        return float(tissue.pd * longitudinal * np.exp(-self.te / tissue.t2))

    def blood(self, tissue: Tissue) -> float:
        """Signal of a vessel: dark because of flow, bright with contrast agent, which shortens T1."""
        if self.gadolinium:
            return self.signal(tissue.enhanced(2 * self.gadolinium))
        return FLOW_VOID * self.signal(tissue)


SEQUENCES = {
    "t1": Sequence("t1", tr=2200, te=9, ti=900),
    "t1c": Sequence("t1c", tr=2200, te=9, ti=900, gadolinium=1.0, headroom=1.25),
    "t2": Sequence("t2", tr=4600, te=95),
    "flair": Sequence("flair", tr=9000, te=115, ti=2450, headroom=1.3),
}


def draw_sequence(rng: np.random.Generator, name: str) -> Sequence:
    """The sequence with this examination's own timing (6 % spread) and, with contrast, its own dose (15 %)."""
    base = SEQUENCES[name]
    tr, te, ti, dose = rng.uniform(-1, 1, 4)
    return replace(
        base,
        tr=base.tr * (1 + 0.06 * tr),
        te=base.te * (1 + 0.06 * te),
        # The inversion time is set to suppress CSF: it may vary little.
        ti=base.ti * (1 + 0.015 * ti),
        gadolinium=base.gadolinium * (1 + 0.15 * dose),
    )


def draw_tissues(rng: np.random.Generator) -> dict[str, Tissue]:
    """The patient's own tissues: 4 % spread in each value."""
    spread = np.exp(0.04 * rng.standard_normal((len(TISSUES), 3)))
    return {
        name: Tissue(t.pd * a, t.t1 * b, t.t2 * c)
        for (name, t), (a, b, c) in zip(TISSUES.items(), spread.tolist(), strict=True)
    }
