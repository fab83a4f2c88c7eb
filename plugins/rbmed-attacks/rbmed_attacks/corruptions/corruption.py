"""One corruption of one severity: the average case of bad images, without an adversary."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.corruptions.families import FAMILIES, corrupted
from robustbench_med import Attack, Budget, Stream, TargetModel, ThreatModel


class Corruption(Attack):
    """Corrupts each image by chance, whatever the model answers; it makes no query (see `FAMILIES`)."""

    class Params(rbmed.Params):
        name: str = Field("gaussian-noise", description=f"Corruption: {', '.join(FAMILIES)}.")
        severity: int = Field(3, ge=1, le=5, description="Severity; the eps of the record.")

        @pydantic.field_validator("name")
        @classmethod
        def _known(cls, name: str) -> str:
            if name not in FAMILIES:
                raise ValueError(f"unknown corruption {name!r}; valid: {', '.join(FAMILIES)}")
            return name

    access = "none"

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.own_threat = ("corruption", float(self.params.severity))

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Corrupted images like ``x``.

        Raises:
            NotDefined: the corruption is of coloured images only.
        """
        return corrupted(x, self.params.name, threat.eps, rng) if len(x) else x
