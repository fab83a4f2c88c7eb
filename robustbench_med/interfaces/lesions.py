"""What a data set may measure about the lesion in an image, and the sizes by which results are divided."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Measurement:
    """A measurement of a lesion.

    Attributes:
        title: its name, with the unit.
        edges: where results are divided, from below.
        digits: decimals that are shown.
    """

    title: str
    edges: tuple[float, ...]
    digits: int = 0

    @property
    def ranges(self) -> tuple[str, ...]:
        """``under 6``, ``6 to 8``, ..., ``20 and more``: one more than there are edges."""
        texts = [f"{edge:.{self.digits}f}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(texts)]
        return (f"under {texts[0]}", *between, f"{texts[-1]} and more")


#: By their names in `robustbench_med.interfaces.dataset.Split.lesions`.
LESIONS = {
    "radius": Measurement("Radius of the lesion, mm", (6.0, 9.0, 12.0, 16.0, 20.0)),
    "contrast": Measurement("Contrast of the lesion, of [0, 1]", (0.15, 0.2, 0.25, 0.3), digits=2),
}
