"""What a record says of a cell's data, defense and attacks."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any

from robustbench_med.attacks.rung import Rung
from robustbench_med.defenses.deployment import Deployment
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.grid.cell import Cell
from robustbench_med.grid.ladder import REVISION
from robustbench_med.interfaces.dataset import DataCard
from robustbench_med.interfaces.results import Outcome
from robustbench_med.plugins.components import all_params
from robustbench_med.plugins.references import format_ref
from robustbench_med.plugins.registry import Registry


def dataset(registry: Registry, cell: Cell, card: DataCard) -> dict[str, Any]:
    """Name, origin, digest, licence."""
    entry = registry.find("dataset", cell.dataset.name)
    return {
        "name": card.name,
        "distribution": f"{entry.distribution} {entry.version}",
        "params_passed": dict(cell.dataset.params),
        "partition": format_ref(cell.trained.partition) if cell.trained.partition else None,
        "digest": card.digest,
        "synthetic": card.synthetic,
        "licence": card.licence,
        "classes": list(card.classes),
        "notes": list(card.notes),
        "revision": entry.spec.revision,
        "asked": {
            "dataset": format_ref(cell.dataset),
            "partition": format_ref(cell.trained.partition) if cell.trained.partition else None,
            "unseen_site": list(cell.trained.unseen),
            "client": list(cell.clients),
        },
    }


def defense(cell: Cell, deployment: Deployment, pipeline: Pipeline | None = None) -> dict[str, Any]:
    """Name, origin, parameters, parts and weights; of a deployed system also its size and whether it is random."""
    resolved = deployment.resolved
    manifest = deployment.artifact.manifest
    seed = cell.trained.seed
    return {
        "name": cell.defense.name,
        "distribution": f"{resolved.entry.distribution} {resolved.entry.version}",
        "revision": resolved.entry.spec.revision,
        "params": all_params(resolved.defense.params),
        "params_passed": dict(cell.defense.params),
        "parts": resolved.describe(),
        "strategy": {
            "name": resolved.recipe.strategy.name,
            "params_passed": dict(resolved.recipe.strategy.params),
        },
        "asked": cell.trained.options_given() | ({} if seed is None else {"train-seed": str(seed)}),
        "replaced": {
            kind: format_ref(ref) for kind in ("model", "strategy") if (ref := getattr(cell.trained, kind)) is not None
        },
        "weights": {
            "digest": deployment.artifact.digest,
            "seed": manifest.get("seed"),
            "trained": manifest.get("created"),
            "federation": federation(manifest),
        },
        "reference": resolved.entry.spec.reference,
    } | ({} if pipeline is None else system(pipeline))


def system(pipeline: Pipeline) -> dict[str, Any]:
    """How many parameters each deployed network has, and whether two answers to one image may differ."""
    parts = dict(pipeline.named_children())
    sizes = {name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()}
    return {"parameters": sizes, "randomized": pipeline.stochastic}


def federation(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """What the rounds of a training cost, and who was noticed in them; None where no history of rounds is kept.

    ``bytes_sent_per_round`` (by all clients together, a mean over rounds) and ``bytes_received_per_round`` are seen
    from the clients. ``suspected`` and ``missing`` say in how many rounds.
    """
    try:
        history = manifest["parts"]["classifier"]["metrics"]
        rounds = [entry["clients"] for entry in history]
        return _cost(history, rounds) if rounds else None
    except (AttributeError, KeyError, TypeError, ValueError):  # no history of rounds, but figures of something else
        return None


def _cost(history: list[dict[str, Any]], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    def per_round(name: str) -> float:
        return sum(float(facts.get(name, 0)) for clients in rounds for facts in clients.values()) / len(rounds)

    def noticed(name: str) -> dict[str, int]:
        return dict(sorted(Counter(client for entry in history for client in entry.get(name, ())).items()))

    return {
        "rounds": len(rounds),
        "clients": len(set().union(*rounds)),
        "bytes_sent_per_round": per_round("bytes-sent"),
        "bytes_received_per_round": per_round("bytes-received"),
        "seconds": sum(float(entry.get("seconds", 0)) for entry in history),
        "suspected": noticed("suspected"),
        "missing": noticed("missing"),
    }


def surrogate(deployment: Deployment) -> dict[str, Any]:
    """The defense whose classifier was attacked in place of the deployed one."""
    artifact = deployment.artifact
    return {
        "name": deployment.resolved.entry.spec.name,
        "params": all_params(deployment.resolved.defense.params),
        "digest": artifact.digest,
        "seed": artifact.manifest.get("seed"),
    }


def draws(rung: Rung, deployment: Deployment) -> int:
    """Noise draws that a call from this rung averages: one where nothing that it sees is random."""
    parts = (deployment.resolved.detector, deployment.resolved.purifier)
    random = rung.sees_defense and any(part is not None and part.stochastic for part in parts)
    return rung.eot if random else 1


def attack(cell: Cell, num_classes: int, deployment: Deployment, precision: str) -> dict[str, Any]:
    """The attack; of a ladder, every attack in it. ``precision`` is that of its passes."""
    # A goal of two sides shows every attack a task of two classes.
    classes = num_classes if cell.threat.goal == "untargeted" else 2

    def one(rung: Rung) -> dict[str, Any]:
        ref, attack = rung.ref.attack, rung.attack
        return {
            "name": ref.name,
            "distribution": rung.distribution,
            "params": all_params(attack.params),
            "params_passed": dict(ref.params),
            "revision": attack.spec_revision,
            "variant": attack.variant(classes, cell.threat.norm, draws(rung, deployment) > 1),
        }

    wanted = {
        "access": cell.threat.access,
        "attack": format_ref(cell.attack),
        "evasion": next((rung.ref.evasion for rung in cell.rungs if rung.ref.evasion), None),
        "stand_in": cell.stand_in,
        "surrogate": format_ref(cell.surrogate.defense) if cell.surrogate else None,
        "eot": cell.eot,
        "precision": precision,
    }
    if cell.attack.name != "ladder":
        return {**one(cell.only_rung), "asked": wanted}
    rungs = [
        {"access": rung.access, "eot": rung.ref.eot, "evasion": rung.ref.evasion, **one(rung)} for rung in cell.rungs
    ]
    named = {"name": "ladder", "params": dict(cell.attack.params), "params_passed": dict(cell.attack.params)}
    distribution = f"robustbench-med {version('robustbench-med')}"
    return {**named, "distribution": distribution, "revision": REVISION, "rungs": rungs, "asked": wanted}


def rungs(cell: Cell, outcome: Outcome) -> list[dict[str, Any]]:
    """What a record holds of each rung of the cell, those that could not run included."""
    facts = []
    ladder = len(outcome.rungs) > 1
    for rung in outcome.rungs:
        attacked = int(rung.attacked.sum())
        facts.append(
            {
                "rung": rung.name,
                "access": rung.access,
                "attacked": attacked,
                # Of a plain cell the metrics say it, from the draws that score.
                "withstanding": float(rung.robust.mean()) if ladder else None,
                "broken": int((rung.attacked & (rung.robust == 0)).sum()) if ladder else None,
                "gradients_mean": float(rung.gradients[rung.attacked].double().mean()) if attacked else 0.0,
                "queries_mean": float(rung.queries[rung.attacked].double().mean()) if attacked else 0.0,
                "seconds": rung.seconds,
                "reason": rung.reason,
            }
            | ({"repeated": rung.repeated} if rung.repeated else {})
        )
    return facts + [
        {"rung": left.name, "access": left.rung.access if left.rung else "", "reason": left.reason}
        for left in cell.left_out
    ]
