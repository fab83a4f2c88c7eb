"""One attack from one rung of the access ladder: as requested (`RungRef`), and built (`Rung`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.plugins.specs import NORMS, AttackSpec

if TYPE_CHECKING:
    from robustbench_med.interfaces.attack import Attack
    from robustbench_med.plugins.registry import Registry


@dataclass(frozen=True)
class RungRef:
    """A rung as requested. Its fields are part of the cell id.

    Attributes:
        access: what the adversary sees, one of `robustbench_med.plugins.specs.ACCESS`.
        attack: the attack, by name.
        eot: noise draws averaged in each call; None takes the run's.
        evasion: how the rung `gate` evades the detector: ``selective``, ``orthogonal`` or ``joint:WEIGHT``.
        rounds: how often the attack runs; before each round the worst image so far is judged on fresh noise.
        systems: the systems that a ladder has this rung for: ``static``, ``random`` (they draw noise) or ``any``.
    """

    access: str
    attack: PartRef
    eot: int | None = None
    evasion: str = ""
    rounds: int = 1
    systems: str = "any"

    @property
    def name(self) -> str:
        """The rung on one line: ``gate apgd:steps=10 joint:1``."""
        return f"{self.access} {format_ref(self.attack)} {self.evasion if self.access == 'gate' else ''}".strip()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a cell's id depends on; not to be changed."""
        facts = asdict(self)
        del facts["systems"]
        if self.rounds == 1:
            del facts["rounds"]
        return facts


@dataclass(frozen=True)
class Rung:
    """A rung with its attack, ready to run.

    Attributes:
        ref: the rung as requested.
        attack: the attack.
        eot: noise draws averaged in each call of the target model.
        needs: what the attack needs to see: ``gradient``, ``scores``, ``decision`` or ``none``.
        norms: norms for which the attack is defined.
        distribution: name and version of the distribution that offers the attack.
    """

    ref: RungRef
    attack: Attack = field(compare=False, repr=False)
    eot: int = 1
    needs: str = "gradient"
    norms: tuple[str, ...] = NORMS
    distribution: str = ""

    @property
    def name(self) -> str:
        """As `RungRef.name`."""
        return self.ref.name

    @property
    def access(self) -> str:
        """What the adversary sees."""
        return self.ref.access

    @property
    def evasion(self) -> str:
        """How the rung `gate` evades the detector."""
        return self.ref.evasion or "orthogonal"

    @property
    def follows_gradient(self) -> bool:
        """The attack follows a gradient, so that diagnostics of gradients apply."""
        return self.needs == "gradient"

    @property
    def sees_defense(self) -> bool:
        """The adversary sees the detector and the purifier, or their effect."""
        return self.access not in ("oblivious", "transfer", "insider")

    @property
    def stream(self) -> str:
        """What names the rung's random streams."""
        return f"{self.access}:{self.evasion}" if self.access == "gate" else self.access


@dataclass(frozen=True)
class LeftOut:
    """A rung that will not run, and why; None stands for all rungs of a ladder."""

    rung: Rung | None
    reason: str

    @property
    def name(self) -> str:
        """As `RungRef.name`; empty for a whole ladder."""
        return self.rung.name if self.rung else ""


def resolve_rung(registry: Registry, ref: RungRef, eot: int = 1) -> Rung:
    """Build the attack of a rung.

    Args:
        registry: where the attack comes from.
        ref: the rung as requested.
        eot: noise draws where the rung does not set them; an attack may require more.

    Raises:
        UnknownName, AmbiguousName, BadParameter: the reference to the attack is wrong.
        UsageError: the attack cannot be imported.
    """
    attack: Attack = create(registry, "attack", ref.attack)
    entry = registry.find("attack", ref.attack.name)
    spec = cast("AttackSpec", entry.spec)
    return Rung(
        ref=ref,
        attack=attack,
        eot=max(ref.eot or eot, attack.eot or 1),
        needs=attack.access or spec.access,
        norms=spec.norms,
        distribution=f"{entry.distribution} {entry.version}",
    )
