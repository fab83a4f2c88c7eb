"""What a configuration asks for, before anything of it is built: the systems, and the attacks on each. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from robustbench_med.attacks.rung import RungRef
from robustbench_med.grid.config import DEFAULT_ATTACKS, RunConfig
from robustbench_med.grid.ladder import preset
from robustbench_med.grid.options import reference
from robustbench_med.plugins.references import PartRef, format_ref

Role = Literal["claim", "probe", "cell"]


def trained_axes(config: RunConfig) -> tuple[list[Any], ...]:
    """What is trained: data sets, models, strategies, seeds and defenses; None stands for the recipe's own."""
    defenses = [reference(ref, "defense") for ref in config.defense]
    if config.baseline:
        baseline = reference(config.baseline, "defense")
        if baseline.name not in {ref.name for ref in defenses}:
            defenses.insert(0, baseline)
    return (
        [reference(ref, "dataset") for ref in config.dataset],
        [reference(ref, "model") for ref in config.model] or [None],
        [reference(ref, "strategy") for ref in config.strategy] or [None],
        list(config.train_seed) or [None],
        defenses,
    )


@dataclass(frozen=True)
class Request:
    """What each defense is measured by: one attack from one rung, or a ladder.

    Attributes:
        role, access, attack, limit: of the cell.
        rungs: in the order in which they run.
        replacement: attack that replaces those of the rungs wherever it can run.
    """

    role: Role
    access: str
    attack: PartRef
    rungs: tuple[RungRef, ...]
    limit: int | None
    replacement: PartRef | None = None


def requests_of(config: RunConfig) -> Iterator[Request]:
    """By which attacks, from which access, each defense is measured."""
    attacks = [reference(ref, "attack") for ref in config.attack or DEFAULT_ATTACKS]
    for access in config.access:
        if access.partition(":")[0] == "ladder":
            yield from _ladders(config, access, attacks)
        else:
            for attack in attacks:
                yield Request("cell", access, attack, (RungRef(access, attack, None, config.evasion),), config.limit)
    if config.access:
        return
    # The default: the setting in which defenses are published, and a quick ladder of attacks that know the defense.
    for attack in attacks:
        yield Request("claim", "oblivious", attack, (RungRef("oblivious", attack),), config.limit)
    limit = min(config.probe_limit, config.limit or config.probe_limit)
    quick = PartRef("ladder", {"preset": "quick"})
    yield Request("probe", "ladder", quick, preset("quick").rungs, limit)


def _ladders(config: RunConfig, access: str, attacks: list[PartRef]) -> Iterator[Request]:
    """The ladder of a preset, or one with each attack that is named."""
    name = access.partition(":")[2] or "quick"
    ladder = preset(name)
    limit = ladder.limit if config.limit is None else config.limit
    if not config.attack:
        yield Request("cell", "ladder", PartRef("ladder", {"preset": name}), ladder.rungs, limit)
        return
    for attack in attacks:
        named = PartRef("ladder", {"preset": name, "attack": format_ref(attack)})
        yield Request("cell", "ladder", named, ladder.rungs, limit, attack)


def attack_label(ref: PartRef) -> str:
    """The label ``attack`` of a cell."""
    if ref.name != "ladder":
        return format_ref(ref)
    return " ".join(filter(None, [f"ladder:{ref.params['preset']}", str(ref.params.get("attack", ""))]))
