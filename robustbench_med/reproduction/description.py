"""Does a record describe the cell that its options plan? Nothing is run, and no weights are needed.

What a record says of its parts, parameters, rungs and revisions follows from its options and from the plugins that are
installed. So does the id of its cell, given the digests of data and weights.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from robustbench_med.defenses.gate_revision import GATE_REVISION
from robustbench_med.defenses.resolved import resolve_defense
from robustbench_med.errors import UsageError
from robustbench_med.files.redact import portable
from robustbench_med.grid.cell import Cell, Skip, cell_of
from robustbench_med.grid.config import build
from robustbench_med.grid.ladder import REVISION
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record
from robustbench_med.records.rerun import request
from robustbench_med.records.sections.attack import AttackSection, ThreatSection, draws
from robustbench_med.records.sections.base import moment
from robustbench_med.records.sections.dataset import DatasetOptions
from robustbench_med.records.sections.defense import PartsSection, StrategySection

if TYPE_CHECKING:
    from robustbench_med.interfaces.tasks import Task

#: Clocks of two machines may differ by this much.
CLOCKS = dt.timedelta(days=1)


def described(record: Record, registry: Registry) -> Iterator[str]:
    """What a record says otherwise than its options and the plugins here, a line each."""
    try:
        options = {**request(record), "device": "cpu", "data_root": Path(), "out": Path()}
        config = build(options)
        cells = [cell_of(each) for each in plan(config, registry)]
        own = [cell for cell in cells if cell.role == record.role]
        cell = next((found for each in own if (found := variant(each, record)) is not None), None)
        if cell is None:
            yield "its id is not that of the cell that its options plan with the plugins here"
            return
        facts = _facts(record, cell, registry, config.extras)
    except UsageError as error:
        yield f"its cell cannot be planned here, where a plugin may be missing: {error}"
        return
    for name, (said, true) in facts.items():
        if said != true:
            yield f"{name} is {said!s:.80}, and its options and plugins say {true!s:.80}"


#: Rungs that a run leaves out where the trained weights do not admit them, in its order.
UNSETTLED = ("insider", "transfer")


def variants(cell: Cell) -> Iterator[Cell]:
    """The cell as planned, and without rungs that the trained weights may not admit; the rerun says if they did."""
    for many in range(len(UNSETTLED) + 1):
        for gone in itertools.combinations(UNSETTLED, many):
            found: Cell | Skip = cell
            for access in gone:
                found = found if isinstance(found, Skip) else found.without(access, "")
            if not isinstance(found, Skip):
                yield found


def variant(cell: Cell, record: Record) -> Cell | None:
    """The cell as it has the id of a record, with the digests of the record; None where it has not."""
    return next((found for found in variants(cell) if planned_id(found, record) == record.cell_id), None)


def planned_id(cell: Cell, record: Record) -> str:
    """The id of a cell with the digests of a record."""
    surrogate = record.surrogate.digest if record.surrogate and cell.transfers else ""
    return cell.id(str(record.dataset.digest), str(record.defense.weights.digest), surrogate)


def _facts(record: Record, cell: Cell, registry: Registry, extras: Mapping[str, bool]) -> dict[str, tuple[Any, Any]]:
    """What the record says, and what it should, by name."""
    trained, defense, data = cell.trained, record.defense, record.dataset
    resolved = resolve_defense(registry, trained.defense, trained.model, trained.strategy, trained.options)
    untrained: Any = SimpleNamespace(resolved=resolved)  # a deployment as far as it is known without weights
    precision = record.attack.asked.precision if record.attack.asked else None
    classes = cell.shown_classes(len(data.classes), cast("Task", data.task or "multi-class"))
    attack = AttackSection.of(cell, classes, untrained, precision or "float32", extras)
    spec = registry.find("dataset", cell.dataset.name).spec
    random = any(part is not None and part.stochastic for part in (resolved.detector, resolved.purifier))
    # Of rungs that the weights do not admit the rerun says why.
    known = {each.name: each.reason for each in cell.left_out if each.name and each.reason}
    told = {rung.rung: rung.reason for rung in record.rungs if rung.reason}
    ran = [(rung.rung, False) for rung in record.rungs if not rung.reason]
    return {
        "dataset.revision": (data.revision, spec.revision),
        "dataset.asked": (_dumped(data.asked), _dumped(DatasetOptions.of(cell))),
        "dataset.partition": (data.partition, format_ref(trained.partition) if trained.partition else None),
        "dataset.params_passed": (data.params_passed, portable(dict(cell.dataset.params))),
        "defense.revision": (defense.revision, resolved.entry.spec.revision),
        "defense.params": (defense.params, _json(portable(all_params(resolved.defense.params)))),
        "defense.strategy": (_named(defense.strategy), _named(resolved.recipe.strategy)),
        "defense.parts": (_parts(defense.parts), _parts(PartsSection(**portable(resolved.describe_deployed())))),
        "defense.reference": _references(defense.reference, resolved.entry.spec.reference),
        "attack": (_attack(record.attack), _attack(attack)),
        "threat": (_threat(record.threat), _threat(cell.threat)),
        "surrogate": _surrogates(record, cell, registry),
        "eot": (record.eot, max((draws(rung, untrained) for rung in cell.rungs), default=1)),
        "draws": (record.draws, cell.draws),
        "limit": (record.limit, cell.limit),
        "defense.randomized": (defense.randomized or not random, True),
        "rungs": (ran, [(rung.name, False) for rung in cell.rungs if (rung.name, False) in ran]),
        "unseen": (record.unseen, [client for client in cell.clients if client in trained.unseen]),
        "reasons of rungs": ({rung: told[rung] for rung in known if rung in told}, known),
    }


def _references(said: str, here: str) -> tuple[str, str]:
    """What a record says and should; a plugin may have named fewer papers when it was measured."""
    fewer = bool(said) and set(said.split("; ")) <= set(here.split("; "))
    return said, said if fewer else here


def _named(part: StrategySection | PartRef | None) -> Any:
    """A strategy as it was named."""
    if part is None:
        return None
    return part.name, _json(portable(dict(part.params if isinstance(part, PartRef) else part.params_passed)))


def _surrogates(record: Record, cell: Cell, registry: Registry) -> tuple[Any, Any]:
    """The surrogate that a record names, and that of the cell; weights may not admit one."""
    told, ref = record.surrogate, cell.surrogate
    if told is None or ref is None:
        return told and told.name, None
    resolved = resolve_defense(registry, ref.defense, ref.model, ref.strategy, ref.options)
    params = _json(portable(all_params(resolved.defense.params)))
    return (told.name, told.params), (resolved.entry.spec.name, params)


def _threat(threat: ThreatSection | ThreatModel) -> tuple[object, ...]:
    """Eps with the digits of a cell's id; of families of changes it follows from the attack's parameters."""
    return threat.norm, f"{threat.eps:.10g}", threat.access, threat.goal, threat.finding or ""


def _attack(section: AttackSection) -> Any:
    """Everything but versions of distributions."""
    facts = section.model_dump(mode="json")
    for each in (facts, *facts.get("rungs", [])):
        each.pop("distribution", None)
    return _json(facts)


def _parts(section: PartsSection) -> Any:
    """What recipe and parameters say of the parts; what training adds is compared when the cell is run again."""
    facts = section.model_dump(mode="json")
    known = ("model", "strategy", "detector", "purifier", "fpr", "strength", "gate_revision")
    return _json({name: facts.get(name) for name in known})


def _dumped(section: Any) -> Any:
    return None if section is None else _json(section.model_dump(mode="json"))


def _json(facts: Any) -> Any:
    """As it is read back from a record."""
    return json.loads(json.dumps(facts, default=str))


def dated(record: Record, now: dt.datetime) -> Iterator[str]:
    """What is wrong with the dates of a record."""
    ended = moment(record.created)
    if ended > now + CLOCKS:
        yield f"it was measured at {record.created}, which is not over yet"
    trained = record.defense.weights.trained
    try:
        if trained is not None and moment(trained) > ended + CLOCKS:
            yield f"its weights were trained at {trained}, after it was measured at {record.created}"
    except ValueError as error:
        yield f"its weights were trained at a time that is none: {error}"


def other_revisions(record: Record, registry: Registry) -> list[str]:
    """A line for each revision that is another here; plugins that are missing are left out."""
    return list(dict.fromkeys(f"{what}: revision {told} -> {here}" for what, told, here in _pairs(record, registry)))


def _pairs(record: Record, registry: Registry) -> Iterator[tuple[str, int, int]]:
    attack, parts = record.attack, record.defense.parts
    if attack.is_ladder and attack.revision != REVISION:
        yield "ladder", attack.revision, REVISION
    if parts.detector and parts.gate_revision != GATE_REVISION:
        yield "rule of the detector's threshold", parts.gate_revision, GATE_REVISION
    named = [("dataset", record.dataset.name, record.dataset.revision)]
    named += [("defense", record.defense.name, record.defense.revision)]
    named += [("attack", each.name, each.revision) for each in (attack.rungs if attack.is_ladder else [attack])]
    for kind in ("model", "strategy", "detector", "purifier"):
        if (part := getattr(parts, kind)) is not None:
            named.append((kind, part.name, part.revision))
    for kind, name, told in named:
        try:
            here = registry.find(kind, name).spec.revision
        except UsageError:
            continue
        if told != here:
            yield f"{kind} {name}", told, here
