"""What was found: rung by rung, between clients, and by the diagnostics; and what the attacks spent."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field

from robustbench_med.records.sections.base import Count, Name, NotNull, Reason, RecordSection, Text

_Spent = Annotated[float | None, NotNull]


class RungSection(RecordSection):
    """One rung of a cell: what its attack did, or why it did not run."""

    rung: Name
    """The rung with its attack: ``gate apgd:steps=10 joint:1``."""

    access: Name
    """The rung: ``gate``."""

    attacked: Count = 0
    """Images that the attack was given; a ladder leaves out those already broken."""

    # Drawn as a bar; a mean may round to a little over one.
    withstanding: Annotated[float, Field(ge=0, le=1.000001)] | None = None
    """Share of all images that are robust to everything up to here; null in a cell of one rung, which has metrics."""

    broken: Count | None = None
    """Images that this attack broke; null in a cell of one rung."""

    gradients_mean: float = 0.0
    """Gradients for each image that it was given."""

    queries_mean: float = 0.0
    """Queries for each image that it was given."""

    seconds: float = 0.0
    """Wall time."""

    reason: Reason | None
    """Why it did not run; empty or null where it did."""

    repeated: Count = 0
    """Images attacked again in float32, because faster passes decided differently."""

    @pydantic.model_validator(mode="after")
    def _whole(self) -> RungSection:
        needed = {"attacked", "withstanding", "gradients_mean", "queries_mean", "seconds"}
        if not self.reason and not needed <= self.model_fields_set:
            raise ValueError(f"{min(needed - self.model_fields_set)} is missing, and no reason is given")
        return self

    @property
    def left(self) -> float | None:
        """``withstanding`` of an attack of a ladder that ran, else None."""
        return None if self.reason else self.withstanding


class FairnessSection(RecordSection):
    """The distribution of one figure over the clients (`robustbench_med.records.fairness`)."""

    __pydantic_extra__: dict[str, float | str]

    mean: float
    """Unweighted mean."""

    worst: float
    """Value of the client that is served worst."""

    worst_client: Name
    """Which client that is."""

    spread: float
    """Best minus worst value."""

    std: float = 0.0
    """Standard deviation over these clients, without a correction for the sample."""

    clients: float = 0
    """Number of clients that have the figure."""


class SpentSection(RecordSection):
    """Calls of the attacks for each image."""

    __pydantic_extra__: dict[str, float]

    gradients_mean: _Spent = None
    """Gradients, mean over the images."""

    gradients_max: _Spent = None
    """Gradients, the most of any image."""

    queries_mean: _Spent = None
    """Queries, mean over the images."""

    queries_max: _Spent = None
    """Queries, the most of any image."""


class DiagnosticsSection(RecordSection):
    """Whether the attack can be trusted."""

    level: Name = "off"
    """How much was checked: ``off``, ``cheap`` or ``full``."""

    figures: dict[str, float | None] = {}
    """Figures of the controls, and of gradients and losses; null where undefined."""

    flags: list[Name] = []
    """Raised flags (`robustbench_med.attacks.flags`)."""

    notes: list[Text] = []
    """What else a reader should know."""

    seconds: float = 0.0
    """Wall time of the controls."""
