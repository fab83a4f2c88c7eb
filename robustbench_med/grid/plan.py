"""`RunConfig` + registry -> cells and skips. One generator makes the whole grid; each skip says why."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, TypeVar

from robustbench_med.attacks.rung import LeftOut, Rung, RungRef, resolve_rung
from robustbench_med.datasets.loading import open_dataset
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.resolved import ResolvedDefense, key_of, resolve_defense
from robustbench_med.errors import BadParameter
from robustbench_med.grid.cell import Cell, Role, Skip, cell_labels, cell_of
from robustbench_med.grid.config import Ref, RunConfig
from robustbench_med.grid.filters import chooser, read
from robustbench_med.grid.ladder import BARE, REVISION, inapplicable, preset
from robustbench_med.interfaces import Dataset
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import PartRef, format_ref, parse
from robustbench_med.plugins.registry import Registry

#: Cells of the largest grid that is listed.
LARGEST = 100_000
#: Opens the data set that a defense was trained on.
Datasets = Callable[[TrainedRef], Dataset]


def reference(ref: Ref, kind: str) -> PartRef:
    """A component from a string or a TOML table; either way the same, for a cell's id is made of it."""
    if isinstance(ref, str):
        return parse(ref)
    params = dict(ref)
    name = params.pop("name", None)
    if not isinstance(name, str):
        raise BadParameter(f"{kind} table {reprlib.repr(ref)} needs a key 'name'")
    return parse(format_ref(PartRef(name, params)))


def plan(config: RunConfig, registry: Registry, datasets: Datasets | None = None) -> Iterator[Cell | Skip]:
    """The cells of a run, in the order in which they share most; see `robustbench_med.grid.plan`.

    Args:
        config: what was asked for.
        registry: where the components come from.
        datasets: opens a data set, where a cell for each client is wanted and nobody said who the clients are.

    Raises:
        UsageError: a name or a parameter is wrong, the grid is too large, or no cell is left of it. Everything is
            checked before the first cell is yielded.
    """
    wanted = chooser(map(read, config.include), map(read, config.exclude))
    every = grouped(
        _grid(config, registry, datasets or partial(_opened, config, registry)), lambda each: shared(cell_of(each))
    )
    # What is named twice is measured once.
    cells = list({repr(cell): cell for cell in every if wanted(cell_labels(cell_of(cell)))}.values())
    if not cells:
        raise BadParameter(
            f"--include and --exclude leave none of {len(every)} cells; `rbmed plan` without them lists all"
        )
    yield from cells


def _grid(config: RunConfig, registry: Registry, datasets: Datasets) -> Iterator[Cell | Skip]:
    defenses = [reference(ref, "defense") for ref in config.defense]
    if config.baseline:
        baseline = reference(config.baseline, "defense")
        if baseline.name not in {ref.name for ref in defenses}:
            defenses.insert(0, baseline)
    data = [reference(ref, "dataset") for ref in config.dataset]
    attacks = [reference(ref, "attack") for ref in config.attack]
    models: list[PartRef | None] = [*(reference(ref, "model") for ref in config.model)] or [None]
    strategies: list[PartRef | None] = [*(reference(ref, "strategy") for ref in config.strategy)] or [None]
    for ref in data:
        registry.find("dataset", ref.name)
    asks = list(_asks(config, registry, attacks))
    partition = reference(config.partition, "partition") if config.partition else None
    options = {
        name: format_ref(reference(ref, name))
        for name in ("adversarial", "malicious", "engine")
        if (ref := getattr(config, name))
    }
    surrogate = reference(config.surrogate, "defense")
    budget, unseen = Budget(config.max_gradients, config.max_queries), config.unseen_site
    seeds = config.train_seed or (None,)
    check_size(data, models, strategies, seeds, defenses, config.threats, config.seed, asks, config.client)
    groups: dict[str, list[tuple[str, ...]]] = {}
    for dataset, model, strategy, train_seed, defense in product(data, models, strategies, seeds, defenses):
        trained = TrainedRef(defense, dataset, model, strategy, options, partition, unseen, train_seed)
        if (name := format_ref(dataset)) not in groups:
            groups[name] = _groups(config, trained, datasets)
        resolved = resolve_defense(registry, defense, model, strategy, options)
        bare = resolved.detector is None and resolved.purifier is None
        for given, ask in product(config.threats, asks):
            threat = ThreatModel(given.norm, given.eps, ask.access, given.goal or config.goal)
            admitted, left_out = _admitted(registry, ask, threat, resolved)
            if bare and ask.role == "probe":
                admitted, left_out = (), (("", BARE),)
            transfers = any(rung.access == "transfer" for rung in admitted)
            facts = key_of(
                [[_facts(registry, rung.attack) for rung in admitted], resolved.describe(), *_reduced(config)]
            )
            for clients, seed in product(groups[name], config.seed):
                cell = Cell(
                    role=ask.role,
                    trained=trained,
                    attack=ask.attack,
                    rungs=admitted,
                    left_out=left_out,
                    threat=threat,
                    budget=budget,
                    surrogate=TrainedRef(surrogate, dataset, partition=partition, unseen=unseen, seed=train_seed)
                    if transfers
                    else None,
                    stand_in=config.stand_in,
                    clients=clients,
                    limit=ask.limit,
                    seed=seed,
                    eot=config.eot,
                    draws=config.draws,
                    facts=facts,
                )
                yield cell if admitted else Skip(cell, left_out[0][1])


def _groups(config: RunConfig, trained: TrainedRef, datasets: Datasets) -> list[tuple[str, ...]]:
    """The clients of each cell: all in one, or one in each."""
    together = config.client or config.unseen_site
    if not config.each_client:
        return [together]
    return [(client,) for client in together or sorted(set(datasets(trained).split("train").sites))]


def _opened(config: RunConfig, registry: Registry, trained: TrainedRef) -> Dataset:
    return open_dataset(registry, trained.dataset, config.data_root, partition=trained.partition, unseen=trained.unseen)


def check_size(*axes: Sequence[Any]) -> None:
    """Raise `BadParameter` before a mistyped grid takes hours and all memory to be listed."""
    cells = math.prod(max(1, len(axis)) for axis in axes)
    if cells > LARGEST:
        raise BadParameter(f"this grid has {cells} cells, more than {LARGEST}; split it into several files")


@dataclass(frozen=True)
class _Ask:
    """What each defense is measured by: one attack from one rung, or a ladder."""

    role: Role
    access: str
    attack: PartRef
    rungs: tuple[Rung, ...]
    limit: int | None


def _asks(config: RunConfig, registry: Registry, attacks: list[PartRef]) -> Iterator[_Ask]:
    for access in config.access:
        if access.partition(":")[0] == "ladder":
            yield from _ladders(config, registry, access, attacks)
        else:
            for attack in attacks:
                yield _Ask("cell", access, attack, (Rung(access, attack, None, config.evasion),), config.limit)
    if config.access:
        return
    # Nobody chose a rung: the setting defenses are published in, and a look at what informed adversaries do.
    for attack in attacks:
        yield _Ask("claim", "oblivious", attack, (Rung("oblivious", attack),), config.limit)
    limit = min(config.probe_limit, config.limit or config.probe_limit)
    quick = PartRef("ladder", {"preset": "quick"})
    yield _Ask("probe", "ladder", quick, preset("quick").rungs, limit)


def _ladders(config: RunConfig, registry: Registry, access: str, attacks: list[PartRef]) -> Iterator[_Ask]:
    """The ladder as its preset has it, or with each attack that was asked for by name."""
    name = access.partition(":")[2] or "quick"
    ladder = preset(name)
    limit = ladder.limit if config.limit is None else config.limit
    if "attack" not in config.model_fields_set:
        yield _Ask("cell", "ladder", PartRef("ladder", {"preset": name}), ladder.rungs, limit)
        return
    for attack in attacks:
        gradient = needs(registry, attack) == "gradient"
        named = PartRef("ladder", {"preset": name, "attack": format_ref(attack)})
        yield _Ask("cell", "ladder", named, with_attack(ladder.rungs, attack, gradient), limit)


def needs(registry: Registry, attack: PartRef) -> str:
    """What an attack has to see: ``gradient``, ``scores``, ``decision`` or ``none``."""
    made: Attack = create(registry, "attack", attack)
    return made.access or str(getattr(registry.find("attack", attack.name).spec, "access", "gradient"))


def _reduced(config: RunConfig) -> list[str]:
    """What makes an attack's passes compute something else than the deployed system does."""
    return [] if config.precision == "float32" else [config.precision]


def _facts(registry: Registry, attack: PartRef) -> list[Any]:
    made: Attack = create(registry, "attack", attack)
    return [all_params(made.params), registry.find("attack", attack.name).spec.revision, REVISION]


def _admitted(
    registry: Registry, ask: _Ask, threat: ThreatModel, resolved: ResolvedDefense
) -> tuple[tuple[Rung, ...], tuple[tuple[str, str], ...]]:
    """The rungs that can be climbed, and those that cannot with the reason."""
    admitted, left_out = [], []
    for rung in ask.rungs:
        norms = getattr(registry.find("attack", rung.attack.name).spec, "norms", ())
        reason = impossible(rung, norms, needs(registry, rung.attack), threat, resolved)
        if reason:
            left_out.append((label(rung), reason))
        else:
            admitted.append(rung)
    return tuple(admitted), tuple(left_out)


T = TypeVar("T")


def shared(cell: Cell) -> tuple[str, ...]:
    """What is opened for a cell, from what many share to what few do: data, weights, clients, clean predictions."""
    trained = cell.trained
    return (
        repr((trained.dataset, trained.partition, trained.unseen)),
        repr(trained),
        repr(cell.clients),
        repr((cell.limit, cell.threat.goal, cell.seed, cell.draws)),
    )


def grouped(items: Iterable[T], keys: Callable[[T], tuple[str, ...]]) -> list[T]:
    """The items with equal first key side by side, among these those with equal second key, and so on.

    Groups, and the items within one, keep their order.
    """
    first: dict[tuple[str, ...], int] = {}

    def place(item: T) -> tuple[int, ...]:
        path = keys(item)
        return tuple(first.setdefault(path[:depth], len(first)) for depth in range(1, len(path) + 1))

    # The sort asks for all places, in order, before it compares any.
    return sorted(items, key=place)
