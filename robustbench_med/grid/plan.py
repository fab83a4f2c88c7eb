"""`RunConfig` + registry -> cells and skips. One generator makes the whole grid; each skip has a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, TypeVar

from robustbench_med.attacks.rung import LeftOut, Rung, resolve_rung
from robustbench_med.certification.settings import check_certifiable
from robustbench_med.datasets.loading import open_dataset
from robustbench_med.defenses.gate_revision import GATE_REVISION
from robustbench_med.defenses.reference import TrainedRef
from robustbench_med.defenses.resolved import ResolvedDefense, key_of, resolve_defense
from robustbench_med.errors import BadParameter
from robustbench_med.grid.cell import Cell, Skip, cell_labels, cell_of
from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.filters import chooser, read
from robustbench_med.grid.ladder import BARE, inapplicable, meant_for, revision_of
from robustbench_med.grid.options import reference
from robustbench_med.grid.requests import Request, requests_of, trained_axes
from robustbench_med.interfaces.dataset import Dataset
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import format_ref
from robustbench_med.plugins.registry import Registry

#: Cells of the largest grid that is listed.
LARGEST = 100_000
#: Opens the data set that a defense was trained on.
Datasets = Callable[[TrainedRef], Dataset]


def plan(config: RunConfig, registry: Registry, datasets: Datasets | None = None) -> Iterator[Cell | Skip]:
    """The cells of a run, ordered so that cells that share data, weights or clean predictions are consecutive.

    Args:
        config: what is requested.
        registry: where the components come from.
        datasets: opens a data set, where a cell for each client is requested and no clients are named.

    Raises:
        UsageError: a name or a parameter is wrong, the grid is too large, or no cell is left of it. Everything is
            checked before the first cell is yielded.
    """
    wanted = chooser(map(read, config.include), map(read, config.exclude))
    every = grouped(
        _grid(config, registry, datasets or partial(_open, config, registry)), lambda each: shared(cell_of(each))
    )
    # A cell that is named twice is measured once.
    cells = list({repr(cell): cell for cell in every if wanted(cell_labels(cell_of(cell)))}.values())
    if not cells:
        raise BadParameter(
            f"--include and --exclude leave none of {plural(len(every), 'cell')}; `rbmed plan` without them lists all"
        )
    yield from cells


def _grid(config: RunConfig, registry: Registry, datasets: Datasets) -> Iterator[Cell | Skip]:
    requests, axes = list(requests_of(config)), trained_axes(config)
    check_size(*axes, config.threats, config.seed, requests, config.client)
    for dataset in axes[0]:
        registry.find("dataset", dataset.name)
    attacks = [(request, _resolve(request, registry, config.eot)) for request in requests]
    partition = reference(config.partition, "partition") if config.partition else None
    options = {
        name: format_ref(reference(ref, name))
        for name in ("adversarial", "malicious", "engine")
        if (ref := getattr(config, name))
    }
    clients: dict[str, list[tuple[str, ...]]] = {}
    for dataset, model, strategy, train_seed, defense in product(*axes):
        trained = TrainedRef(defense, dataset, model, strategy, options, partition, config.unseen_site, train_seed)
        if (name := format_ref(dataset)) not in clients:
            clients[name] = _clients(config, trained, datasets)
        resolved = resolve_defense(registry, defense, model, strategy, options)
        for threat, (request, rungs) in product(config.threats, attacks):
            cell = _cell(config, request, rungs, _threat(threat, request, rungs), trained, resolved)
            for group, seed in product(clients[name], config.seed):
                each = replace(cell, clients=group, seed=seed)
                yield each if each.rungs else Skip(each, each.left_out[0].reason)


def _cell(
    config: RunConfig,
    request: Request,
    rungs: tuple[Rung, ...],
    threat: ThreatModel,
    trained: TrainedRef,
    resolved: ResolvedDefense,
) -> Cell:
    """A cell of the first seed over all clients."""
    if config.certify:
        check_certifiable(resolved, format_ref(trained.defense), threat.norm)
    rungs = tuple(rung for rung in rungs if meant_for(rung, resolved))
    reasons = [(rung, inapplicable(rung, threat, resolved)) for rung in rungs]
    kept = tuple(rung for rung, reason in reasons if reason is None)
    left_out = tuple(LeftOut(rung, reason) for rung, reason in reasons if reason is not None)
    if resolved.bare and request.role == "probe":
        kept, left_out = (), (LeftOut(None, BARE),)
    ladder = request.attack.name == "ladder"
    attacks = [
        [all_params(rung.attack.params), rung.attack.spec_revision, revision_of(rung, resolved, ladder)]
        for rung in kept
    ]
    # Reduced precision makes the passes of an attack compute something else than the deployed system does.
    precision: list[str] = [] if config.precision == "float32" else [config.precision]
    precision += sorted(config.extras)
    # Of another rule, the same scores would give another threshold.
    gate = [] if resolved.detector is None else [["gate", GATE_REVISION]]
    certified = [] if config.certification is None else [config.certification.facts]
    cell = Cell(
        role=request.role,
        trained=trained,
        attack=request.attack,
        rungs=kept,
        left_out=left_out,
        threat=threat,
        budget=Budget(config.max_gradients, config.max_queries),
        surrogate=None,
        stand_in=config.stand_in,
        clients=(),
        limit=request.limit,
        seed=config.seed[0],
        eot=config.eot,
        draws=config.draws,
        facts=key_of([attacks, resolved.describe(), *precision, *gate, *certified]),
    )
    if not cell.transfers:
        return cell
    surrogate = reference(config.surrogate, "defense")
    return replace(
        cell,
        surrogate=TrainedRef(
            surrogate, trained.dataset, partition=trained.partition, unseen=trained.unseen, seed=trained.seed
        ),
    )


def _threat(threat: ThreatModel, request: Request, rungs: tuple[Rung, ...]) -> ThreatModel:
    """The threat model of a cell: that of the attack where it has one of its own."""
    own = next((rung.attack.own_threat for rung in rungs if rung.attack.own_threat), None)
    norm, eps = own or (threat.norm, threat.eps)
    return replace(threat, norm=norm, eps=eps, access=request.access)


def _clients(config: RunConfig, trained: TrainedRef, datasets: Datasets) -> list[tuple[str, ...]]:
    """The clients of each cell: all in one, or one in each."""
    together = config.client or config.unseen_site
    if not config.each_client:
        return [together]
    return [(client,) for client in together or sorted(set(datasets(trained).sites_of("train")))]


def _open(config: RunConfig, registry: Registry, trained: TrainedRef) -> Dataset:
    return open_dataset(registry, trained.dataset, config.data_root, partition=trained.partition, unseen=trained.unseen)


def check_size(*axes: Sequence[Any]) -> None:
    """Raise `BadParameter` before a mistyped grid takes hours and all memory to be listed."""
    cells = math.prod(max(1, len(axis)) for axis in axes)
    if cells > LARGEST:
        raise BadParameter(f"this grid has {cells} cells, more than {LARGEST}; split it into several files")


def _resolve(request: Request, registry: Registry, eot: int) -> tuple[Rung, ...]:
    """The rungs with their attacks, each built once for all cells of the request."""
    rungs: dict[str, Rung] = {}
    for ref in request.rungs:
        rung = None
        if request.replacement is not None:
            # The ladder's rungs of one access differ in their attacks, of which there is only one now.
            rung = resolve_rung(registry, replace(ref, attack=request.replacement, systems="any"), eot)
        if rung is None or (rung.access == "query" and rung.follows_gradient):
            rung = resolve_rung(registry, ref, eot)
        rungs.setdefault(rung.name if request.replacement else repr(ref), rung)
    return tuple(rungs.values())


T = TypeVar("T")


def shared(cell: Cell) -> tuple[str, ...]:
    """What is opened for a cell, from what many cells share to what few do: data, weights, clients, predictions."""
    trained = cell.trained
    return (
        repr((trained.dataset, trained.partition, trained.unseen)),
        repr(trained),
        repr(cell.clients),
        repr((cell.limit, cell.threat.goal, cell.threat.finding, cell.seed, cell.draws)),
    )


def grouped(items: Iterable[T], keys: Callable[[T], tuple[str, ...]]) -> list[T]:
    """The items with equal first key side by side, among these those with equal second key, and so on.

    Groups, and the items within one, keep their order.
    """
    first: dict[tuple[str, ...], int] = {}

    def place(item: T) -> tuple[int, ...]:
        path = keys(item)
        return tuple(first.setdefault(path[:depth], len(first)) for depth in range(1, len(path) + 1))

    # `sorted` computes all keys, in order, before it compares any.
    return sorted(items, key=place)
