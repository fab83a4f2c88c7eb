"""`RunConfig` + registry -> cells and skips. One generator makes the whole grid; each skip says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

from robustbench_med.blueprint import Blueprint, draw, key_of
from robustbench_med.components import PartRef, all_params, create, parse
from robustbench_med.config import Ref, RunConfig
from robustbench_med.errors import BadParameter
from robustbench_med.interfaces import Attack
from robustbench_med.registry import Registry
from robustbench_med.threat import ThreatModel

Role = Literal["claim", "probe", "cell"]


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a defense on a data set against an attack under a threat model."""

    role: Role
    dataset: PartRef
    defense: PartRef
    model: PartRef | None
    strategy: PartRef | None
    attack: PartRef
    threat: ThreatModel
    clients: tuple[str, ...]
    limit: int | None
    seed: int
    eot: int
    draws: int
    #: Facts that enter the id besides the fields above: full parameters and revisions.
    facts: str

    def id(self, dataset_digest: str, weights_digest: str) -> str:
        """Hash of everything that decides the numbers."""
        return key_of([asdict(self), dataset_digest, weights_digest])


@dataclass(frozen=True)
class Skip:
    """A cell that will not run, and why."""

    cell: Cell
    reason: str


def reference(ref: Ref, kind: str) -> PartRef:
    """A component from a string or a TOML table."""
    if isinstance(ref, str):
        return parse(ref)
    params = dict(ref)
    name = params.pop("name", None)
    if not isinstance(name, str):
        raise BadParameter(f"{kind} table {ref!r} needs a key 'name'")
    return PartRef(name, params)


def plan(config: RunConfig, registry: Registry) -> Iterator[Cell | Skip]:
    """The cells of a run, defenses of one data set side by side so that they can be compared.

    Raises:
        UsageError: a name or a parameter is wrong. Everything is checked before the first cell is yielded.
    """
    yield from list(_grid(config, registry))


def _grid(config: RunConfig, registry: Registry) -> Iterator[Cell | Skip]:
    defenses = [reference(ref, "defense") for ref in config.defense]
    if config.baseline:
        baseline = reference(config.baseline, "defense")
        if baseline.name not in {ref.name for ref in defenses}:
            defenses.insert(0, baseline)
    datasets = [reference(ref, "dataset") for ref in config.dataset]
    attacks = [reference(ref, "attack") for ref in config.attack]
    models: list[PartRef | None] = [*(reference(ref, "model") for ref in config.model)] or [None]
    strategies: list[PartRef | None] = [*(reference(ref, "strategy") for ref in config.strategy)] or [None]
    for ref in datasets:
        registry.find("dataset", ref.name)
    for dataset, model, strategy, eps, seed in product(datasets, models, strategies, config.eps, config.seed):
        for defense in defenses:
            blueprint = draw(registry, defense, model, strategy)
            for role, access, attack, limit in _measurements(config, attacks):
                cell = Cell(
                    role=role,
                    dataset=dataset,
                    defense=defense,
                    model=model,
                    strategy=strategy,
                    attack=attack,
                    threat=ThreatModel(norm=config.norm, eps=eps, access=access),
                    clients=config.client,
                    limit=limit,
                    seed=seed,
                    eot=config.eot,
                    draws=config.draws,
                    facts=key_of([_facts(registry, attack), blueprint.describe()]),
                )
                reason = _impossible(registry, cell, blueprint)
                yield Skip(cell, reason) if reason else cell


def _measurements(config: RunConfig, attacks: list[PartRef]) -> Iterator[tuple[Role, str, PartRef, int | None]]:
    """Role, access, attack and limit of what each defense is measured by."""
    if config.access:
        for attack, access in product(attacks, config.access):
            yield "cell", access, attack, config.limit
        return
    # Nobody chose a rung: the setting defenses are published in, and a cheap look at what an informed adversary does.
    for attack in attacks:
        yield "claim", "oblivious", attack, config.limit
    yield (
        "probe",
        "bpda",
        reference(config.probe_attack, "attack"),
        min(config.probe_limit, config.limit or config.probe_limit),
    )


def _facts(registry: Registry, attack: PartRef) -> list[Any]:
    made: Attack = create(registry, "attack", attack)
    return [all_params(made.params), registry.find("attack", attack.name).spec.revision]


def _impossible(registry: Registry, cell: Cell, blueprint: Blueprint) -> str | None:
    """Why this cell cannot be measured, if it cannot."""
    norms = getattr(registry.find("attack", cell.attack.name).spec, "norms", ())
    if cell.threat.norm not in norms:
        return f"attack {cell.attack.name!r} is not defined for {cell.threat.norm}; it knows {', '.join(norms)}"
    bare = blueprint.detector is None and blueprint.purifier is None
    if bare and cell.threat.access != "oblivious":
        return "nothing besides the classifier is deployed: `oblivious` already sees the whole system"
    return None
