"""`Record.attack`: what attacked, and from where; `Record.threat` and `Record.budget`: what it was allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from robustbench_med.files.redact import portable
from robustbench_med.grid.ladder import REVISION, having
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import format_ref
from robustbench_med.records.sections.base import Count, Name, NotNull, RecordSection, formatted

if TYPE_CHECKING:
    from robustbench_med.attacks.rung import Rung
    from robustbench_med.defenses.deployment import Deployment
    from robustbench_med.grid.cell import Cell

#: Controls, which are no attacks: robust accuracy under them does not show robustness.
CONTROLS = frozenset({"noise", "clamp", "trigger"})


def draws(rung: Rung, deployment: Deployment) -> int:
    """Noise draws that a call from this rung averages: one where nothing that it sees is random."""
    parts = (deployment.resolved.detector, deployment.resolved.purifier)
    random = rung.sees_defense and any(part is not None and part.stochastic for part in parts)
    return rung.eot if random else 1


class AttackOptions(RecordSection):
    """The options on the attack that were given on the command line."""

    access: Name | None = None
    """What the adversary sees: a rung, or the ladder."""

    attack: Name | None = None
    """The attack, with its parameters."""

    evasion: Name | None = None
    """How the rung `gate` evades the detector."""

    stand_in: Name | None = None
    """What takes the place of the purifier's gradient on the rung `bpda`."""

    surrogate: Name | None = None
    """The defense whose classifier the rung `transfer` attacks."""

    eot: Count | None = None
    """Noise draws averaged in each gradient."""

    precision: Name | None = None
    """Precision of the attack's passes."""

    tf32: bool | None = None
    """CUDA was allowed to round float32 to TF32; None for full float32."""

    score_8bit: bool | None = None
    """The adversarial images were also scored when rounded to 8 bits."""

    score_fixed_noise: bool | None = None
    """The images were also scored with one noise for all of them."""

    calibrated_thresholds: bool | None = None
    """The thresholds of findings were fixed on calibration images; None for 0.5, and for other tasks."""

    @classmethod
    def of(cls, cell: Cell, precision: str, extras: Mapping[str, bool]) -> AttackOptions:
        """The options of a cell; ``precision`` is that of its passes, ``extras`` what was switched on."""
        return cls(
            access=cell.threat.access,
            attack=portable(format_ref(cell.attack)),
            evasion=next((rung.ref.evasion for rung in cell.rungs if rung.ref.evasion), None),
            stand_in=cell.stand_in,
            surrogate=portable(format_ref(cell.surrogate.defense)) if cell.surrogate else None,
            eot=cell.eot,
            precision=precision,
            **extras,
        )


class NamedAttackSection(RecordSection):
    """An attack with its parameters."""

    name: Name
    """Name of the attack; ``ladder`` for the worst case over rungs."""

    distribution: Name = ""
    """Name and version of the distribution that offers it."""

    params: dict[str, Any] = Field(default_factory=dict)
    """All parameters, defaults included."""

    params_passed: dict[Name, Any]
    """Parameters that were given; of a ladder its preset, and the attack where one was named."""

    revision: Count = 1
    """Revision of the component; of a ladder, of the presets."""

    variant: Name = ""
    """The variant that ran, where the attack chooses one."""


class RungAttackSection(NamedAttackSection):
    """The attack on one rung of a ladder."""

    access: Name = ""
    """The rung."""

    eot: Count | None = None
    """Noise draws averaged in each gradient; None for those of the cell."""

    evasion: Name = ""
    """How the rung `gate` evades the detector; empty on other rungs."""

    def _order(self, facts: Mapping[str, Any]) -> Iterable[str]:
        # The published order of keys.
        return dict.fromkeys(("access", "eot", "evasion", *facts))


class AttackSection(NamedAttackSection):
    """The attack of a cell, or the ladder."""

    rungs: list[RungAttackSection] = Field(default_factory=list)
    """The attacks of a ladder, in order."""

    asked: Annotated[AttackOptions | None, NotNull] = None
    """Options that were given; None in records of formats before 4."""

    @classmethod
    def of(
        cls, cell: Cell, classes: int, deployment: Deployment, precision: str, extras: Mapping[str, bool]
    ) -> AttackSection:
        """The attack of a cell; of a ladder, with every attack in it.

        ``classes`` is how many an attack is shown; further arguments as of `AttackOptions.of`.
        """

        def facts(rung: Rung) -> dict[str, Any]:
            return {
                "name": rung.ref.attack.name,
                "distribution": rung.distribution,
                "params": portable(all_params(rung.attack.params)),
                "params_passed": portable(dict(rung.ref.attack.params)),
                "revision": rung.attack.spec_revision,
                "variant": rung.attack.variant(classes, cell.threat.norm, draws(rung, deployment) > 1),
            }

        asked = AttackOptions.of(cell, precision, extras)
        if cell.attack.name != "ladder":
            return cls(**facts(cell.only_rung), asked=asked)
        return cls(
            name="ladder",
            params=portable(dict(cell.attack.params)),
            params_passed=portable(dict(cell.attack.params)),
            distribution=f"robustbench-med {version('robustbench-med')}",
            revision=REVISION,
            rungs=[
                RungAttackSection(access=rung.access, eot=rung.ref.eot, evasion=rung.ref.evasion, **facts(rung))
                for rung in cell.rungs
            ],
            asked=asked,
        )

    def _order(self, facts: Mapping[str, Any]) -> Iterable[str]:
        # The published order of a ladder's keys.
        return dict.fromkeys(("name", "params", "params_passed", *facts)) if self.is_ladder else facts

    @property
    def is_ladder(self) -> bool:
        """The cell is the worst case over rungs."""
        return self.name == "ladder"

    @property
    def is_control(self) -> bool:
        """What ran is a control and no attack."""
        return self.name in CONTROLS

    @cached_property
    def preset(self) -> str:
        """Of a ladder, its name: ``quick``; "" where the attacks that are said to have run are those of none.

        It is what these attacks are, whatever the parameters say. Of ladders before today's revision, whose attacks are
        not known any more, and with an attack in place of a ladder's own, it is what the parameters say.
        """
        said = str(self.params_passed.get("preset", ""))
        if self.revision != REVISION or self.named or not self.rungs:
            return said
        return having(frozenset((rung.access, formatted(rung), rung.eot, rung.evasion) for rung in self.rungs))

    @property
    def named(self) -> str:
        """Of a ladder, the attack that took the place of its own; empty where none did."""
        return str(self.params_passed.get("attack", ""))


class ThreatSection(RecordSection):
    """The threat model."""

    norm: Name
    """Norm in which the perturbation is measured."""

    eps: Annotated[float, Field(gt=0, le=1e6)]
    """Largest perturbation, in units of pixels in [0, 1]."""

    access: Name
    """What the adversary sees: a rung, or the ladder."""

    goal: Name = "untargeted"
    """What counts as a success of the attack."""

    finding: Annotated[Name | None, NotNull] = None
    """Of a multi-label data set, the finding that was attacked and asked about; None for any of them."""


class BudgetSection(RecordSection):
    """What an attack might spend on one image; null for no limit."""

    gradients: Count | None = None
    """Forward and backward passes; each EOT draw counts."""

    queries: Count | None = None
    """Forward passes; each EOT draw counts."""

    @property
    def limits(self) -> dict[str, int]:
        """The limits that there are, by name."""
        return {name: most for name in ("gradients", "queries") if (most := getattr(self, name)) is not None}
