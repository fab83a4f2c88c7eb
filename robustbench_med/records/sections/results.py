"""What was found: rung by rung, between clients, and by the diagnostics; and what the attacks spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field

from robustbench_med.records.sections.base import Count, Name, NotNull, Number, Reason, RecordSection, Size, Text

if TYPE_CHECKING:
    from robustbench_med.attacks.rung import LeftOut
    from robustbench_med.interfaces.results import Outcome, RungResult

_Spent = Annotated[Size | None, NotNull]


class RoundSection(RecordSection):
    """Where the robust accuracy stood after a round of an attack: a point of the saturation curve."""

    gradients: float
    """Gradients that this rung had spent on each image of the cell, mean."""

    withstanding: Annotated[float, Field(ge=0, le=1.000001)]
    """Share of noise draws, over all images, on which the system was robust to everything up to here."""


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

    gradients_mean: Size = 0.0
    """Gradients for each image that it was given."""

    queries_mean: Size = 0.0
    """Queries for each image that it was given."""

    seconds: Size = 0.0
    """Wall time."""

    reason: Reason | None
    """Why it did not run; empty or null where it did."""

    repeated: Count = 0
    """Images attacked again in float32, because faster passes decided differently."""

    gradients_max: Count = 0
    """The most gradients that were spent on one image."""

    rounds: list[RoundSection] = Field(default_factory=list)
    """The rounds of an attack of a ladder, in order; records of ladders before revision 2 have none."""

    @classmethod
    def of(cls, result: RungResult, ladder: bool) -> RungSection:
        """What an attack did; ``ladder``: it is one of several."""
        attacked = result.attacked
        given = bool(attacked.any())
        more: dict[str, Any] = {"repeated": result.repeated} if result.repeated else {}
        if ladder and given:
            points = zip(result.spent_after.double().mean(0), result.robust_after.double().mean(0), strict=True)
            more["gradients_max"] = int(result.gradients.max())
            more["rounds"] = [RoundSection(gradients=float(spent), withstanding=float(left)) for spent, left in points]
        return cls(
            rung=result.name,
            access=result.access,
            attacked=int(attacked.sum()),
            withstanding=float(result.robust.mean()) if ladder else None,
            broken=int((attacked & (result.robust == 0)).sum()) if ladder else None,
            gradients_mean=float(result.gradients[attacked].double().mean()) if given else 0.0,
            queries_mean=float(result.queries[attacked].double().mean()) if given else 0.0,
            seconds=result.seconds,
            reason=result.reason,
            **more,
        )

    @classmethod
    def left_out(cls, left_out: LeftOut) -> RungSection:
        """A rung that was not run."""
        return cls(rung=left_out.name, access=left_out.rung.access if left_out.rung else "", reason=left_out.reason)

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

    __pydantic_extra__: dict[str, Number | str]

    mean: Number
    """Unweighted mean."""

    worst: Number
    """Value of the client that is served worst."""

    worst_client: Name
    """Which client that is."""

    spread: Number
    """Best minus worst value."""

    std: Number = 0.0
    """Standard deviation over these clients, without a correction for the sample."""

    clients: Number = 0
    """Number of clients that have the figure."""


class SpentSection(RecordSection):
    """Calls of the attacks for each image."""

    __pydantic_extra__: dict[str, Number]

    gradients_mean: _Spent = None
    """Gradients, mean over the images."""

    gradients_max: _Spent = None
    """Gradients, the most of any image."""

    queries_mean: _Spent = None
    """Queries, mean over the images."""

    queries_max: _Spent = None
    """Queries, the most of any image."""

    @classmethod
    def of(cls, outcome: Outcome) -> SpentSection:
        """The calls of a measured cell."""
        gradients, queries = outcome.gradients.double(), outcome.queries.double()
        return cls(
            gradients_mean=float(gradients.mean()),
            gradients_max=float(gradients.max()),
            queries_mean=float(queries.mean()),
            queries_max=float(queries.max()),
        )


class DiagnosticsSection(RecordSection):
    """Whether the attack can be trusted."""

    level: Name = "off"
    """How much was checked: ``off``, ``cheap`` or ``full``."""

    figures: dict[str, Number | None] = Field(default_factory=dict)
    """Figures of the controls, and of gradients and losses; null where undefined."""

    flags: list[Name] = Field(default_factory=list)
    """Raised flags (`robustbench_med.attacks.flags`)."""

    notes: list[Text] = Field(default_factory=list)
    """What else a reader should know."""

    seconds: Size = 0.0
    """Wall time of the controls."""
