"""What a record is of: the board it belongs on, the system that was measured, and with which attacks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from robustbench_med.leaderboard.schema import Track
from robustbench_med.plugins.references import format_eps, format_params
from robustbench_med.records.record import Record

#: Attacks that look at nothing: what they leave standing says nothing of robustness.
CONTROLS = frozenset({"noise", "clamp", "trigger"})
#: Parameters of a defense that the columns strategy and model show.
_SHOWN_APART = ("strategy", "model")


def digest_of(*facts: Any) -> str:
    """A short name for facts, the same on every machine."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:10]


def slug(*words: str) -> str:
    """Words as part of an address: ``[a-z0-9.-]+``; what else they hold becomes ``-``."""
    text = re.sub(r"[^a-z0-9.]+", "-", "-".join(filter(None, words)).lower())
    return re.sub(r"-{2,}", "-", text)[:72].strip("-.") or "x"


def board_key(record: Record) -> tuple[str, ...]:
    """Records with equal keys were measured on the same data set under the same threat model."""
    data, threat = record.dataset, record.threat
    return (
        data["name"], str(data.get("digest", "")), data.get("partition") or "", threat["norm"],
        f"{float(threat['eps']):.10g}", str(threat.get("goal", "untargeted")),
    )  # fmt: skip


def system_key(record: Record) -> str:
    """Names a trained system but for its training seed: the same for every attack on it, at every eps."""
    defense = record.defense
    asked = {name: text for name, text in defense.get("asked", {}).items() if name != "train-seed"}
    data = record.dataset
    return digest_of(
        data["name"], data.get("digest"), data.get("partition"), sorted(record.unseen), defense["name"],
        defense["params_passed"], defense.get("replaced", {}), asked, defense.get("strategy"), model(record),
    )  # fmt: skip


def weights(record: Record) -> tuple[Any, ...]:
    """What tells the trained weights of one system apart: training seed and digest."""
    found = record.defense.get("weights", {})
    return (train_seed(record), found.get("digest", ""))


def train_seed(record: Record) -> int:
    """Seed of the training; 0 where the record does not say, as the shipped weights were trained with it."""
    seed = record.defense.get("weights", {}).get("seed")
    return 0 if seed is None else int(seed)


def protocol(record: Record) -> str:
    """What was asked of the attacks, as people write it; figures of different protocols are not compared."""
    attack, passed = record.attack, record.attack["params_passed"]
    if attack["name"] == "ladder":
        name = f"ladder:{passed.get('preset', '')}"
        words = [name, str(passed["attack"]) if "attack" in passed else ""]
        revision = attack.get("revision", 1)
        words += [f"(revision {revision})" if revision != 1 else ""]
    else:
        words = [record.threat["access"], component(attack)]
    words += [f"(at most {most} {what})" for what, most in sorted(record.budget.items()) if most is not None]
    return " ".join(filter(None, words))


def is_ladder(record: Record) -> bool:
    """Whether the record gives the worst case over rungs."""
    return bool(record.attack["name"] == "ladder")


def is_control(record: Record) -> bool:
    """Whether what ran is a control and no attack."""
    return record.attack["name"] in CONTROLS


def images(record: Record) -> tuple[Any, ...]:
    """Records of one board with equal keys looked at the same images.

    The harness takes the first images of every client in turn, so the clients and the number say which.
    """
    return (tuple(sorted(record.clients)), record.n)


def track(record: Record) -> Track:
    """Static, deterministic or randomized; a record that scored images on several draws saw noise."""
    parts = _mapping(record.defense.get("parts"))
    randomized = record.defense.get("randomized")
    if randomized is None:
        randomized = record.metrics.get("robust_any_of_n") is not None
    if randomized:
        return "randomized test-time"
    if _mapping(parts.get("detector")) or _mapping(parts.get("purifier")):
        return "deterministic test-time"
    return "static"


def has_part(record: Record, kind: str) -> bool:
    """Whether the deployed system has a ``detector`` or a ``purifier``."""
    return bool(_mapping(_mapping(record.defense.get("parts")).get(kind)))


def component(facts: Mapping[str, Any]) -> str:
    """A component as on the command line."""
    params = format_params(facts["params_passed"])
    return f"{facts['name']}:{params}" if params else str(facts["name"])


def defense(record: Record) -> str:
    """The defense as on the command line, without what the columns strategy and model show."""
    passed = {name: value for name, value in record.defense["params_passed"].items() if name not in _SHOWN_APART}
    return component({"name": record.defense["name"], "params_passed": passed})


def strategy(record: Record) -> tuple[str, str]:
    """How the classifier was trained: in short, ``fedavg + pgd``, and as on the command line."""
    named = record.defense.get("strategy")
    if named is None:
        return "", ""
    params = _mapping(_mapping(_mapping(record.defense.get("parts")).get("strategy")).get("params"))
    passed = named["params_passed"]
    extras = [_head(params.get(what, passed.get(what))) for what in ("adversarial", "malicious")]
    words = [str(named["name"]), *(f"+ {extra}" for extra in extras if extra not in ("", "none"))]
    return " ".join(words), component(named)


def model(record: Record) -> str:
    """The classifier's architecture."""
    return str(_mapping(_mapping(record.defense.get("parts")).get("model")).get("name", ""))


def parameters(record: Record) -> int | None:
    """Numbers in the deployed networks, where the record says so."""
    counts = record.defense.get("parameters")
    return sum(counts.values()) if counts else None


def eps_text(record: Record) -> str:
    """Eps as people write it."""
    return format_eps(float(record.threat["eps"]))


def _head(value: Any) -> str:
    """The name of a component that is written ``name:params``, or given as a table."""
    if isinstance(value, Mapping):
        return str(value.get("name", ""))
    return "" if value is None else str(value).partition(":")[0].strip("[]")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
