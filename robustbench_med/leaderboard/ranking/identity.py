"""What a record is of: the board it belongs on, the system that was measured, and with which attacks."""

from __future__ import annotations

import hashlib
import json
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, TypeVar

from robustbench_med.leaderboard.entry import Track
from robustbench_med.plugins.references import PartRef, format_eps, format_ref, fraction
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted

T = TypeVar("T")
#: Parameters of a defense that the columns strategy and model show.
_SHOWN_APART = ("strategy", "model")


def _once(work: Callable[[Record], T]) -> Callable[[Record], T]:
    """Remember what follows from a record as long as that lives: it is frozen, and asked for the same many times."""
    known: dict[int, tuple[weakref.ref[Record], T]] = {}

    @wraps(work)
    def found(record: Record) -> T:
        at = id(record)
        kept = known.get(at)
        if kept is None or kept[0]() is not record:
            kept = known[at] = (weakref.ref(record, lambda _: known.pop(at, None)), work(record))
        return kept[1]

    return found


def digest_of(*facts: Any) -> str:
    """A short name for facts, the same on every machine."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:10]


def slug(*words: str) -> str:
    """Words as part of an address: ``[a-z0-9.-]+``; what else they hold becomes ``-``."""
    text = re.sub(r"[^a-z0-9.]+", "-", "-".join(filter(None, words)).lower())
    return re.sub(r"-{2,}", "-", text)[:72].strip("-.") or "x"


@_once
def board_key(record: Record) -> tuple[str, ...]:
    """Records with equal keys were measured on the same data set under the same threat model.

    An eps that reads like another is the same: a little less would else make a board of its own, with its own first
    rank and the same title.
    """
    data, threat = record.dataset, record.threat
    return (
        *(data.name, data.digest or "", data.partition or ""),
        *(threat.norm, f"{fraction(eps_text(record)):.10g}", " ".join(filter(None, [threat.goal, threat.finding]))),
    )


@_once
def system_key(record: Record) -> str:
    """Identifies a trained system, apart from its training seed: the same for every attack on it, at every eps."""
    data, defense = record.dataset, record.defense
    asked = {name: text for name, text in defense.asked.items() if name != "train-seed"}
    named = defense.strategy
    # The same as model_dump(), which would take half of the time of a large leaderboard.
    strategy = {name: getattr(named, name) for name in named.model_fields_set} if named else None
    return digest_of(
        *(data.name, data.digest, data.partition, sorted(record.unseen)),
        *(defense.name, defense.params_passed, defense.replaced, asked, strategy, model(record)),
    )


@_once
def weights(record: Record) -> tuple[Any, ...]:
    """Identifies trained weights as they are deployed: training seed, digest, and the rule for the threshold.

    With another rule the same weights let other images through, so that answers must not be combined.
    """
    parts = record.defense.parts
    return (train_seed(record), record.defense.weights.digest or "", parts.gate_revision if parts.detector else 0)


def train_seed(record: Record) -> int:
    """Seed of the training; 0 where the record does not say, as the shipped weights were trained with it."""
    return record.defense.weights.seed or 0


@_once
def protocol(record: Record) -> str:
    """The attacks that were requested, as text; figures of different protocols are not compared."""
    attack = record.attack
    if attack.is_ladder:
        revision = f"(revision {attack.revision})" if attack.revision != 1 else ""
        words = [f"ladder:{attack.preset}", attack.named, revision]
    else:
        words = [record.threat.access, formatted(attack)]
    if record.certified is not None:
        words.append(f"(smoothed answers of {record.certified.n} samples)")
    words += [f"(at most {most} {what})" for what, most in record.budget.limits.items()]
    words += _weaker(record)
    return " ".join(filter(None, words))


def _weaker(record: Record) -> Iterator[str]:
    """Options that are not those of a run that names none, and with which an attack may do less."""
    asked = record.attack.asked
    if asked is None:
        return
    if asked.precision not in (None, "float32"):
        yield f"(passes in {asked.precision})"
    if asked.tf32:
        yield "(passes in TF32)"
    if asked.stand_in not in (None, "identity"):
        yield f"(stand-in {asked.stand_in})"


@_once
def images(record: Record) -> tuple[Any, ...]:
    """Records of one board with equal keys looked at the same images.

    The harness takes the first images of every client in turn, so the clients and the number say which.
    """
    return (tuple(sorted(record.clients)), record.n)


@_once
def track(record: Record) -> Track:
    """Static, deterministic or randomized; a record that scored images on several draws saw noise."""
    randomized = record.defense.randomized
    if randomized is None:
        randomized = record.metrics.get("robust_any_of_n") is not None
    if randomized:
        return "randomized test-time"
    parts = record.defense.parts
    return "deterministic test-time" if parts.detector or parts.purifier else "static"


@_once
def defense(record: Record) -> str:
    """The defense as on the command line, without what the columns strategy and model show."""
    passed = {name: value for name, value in record.defense.params_passed.items() if name not in _SHOWN_APART}
    return format_ref(PartRef(record.defense.name, passed))


def system_name(record: Record) -> str:
    """Defense and strategy in short; weights of another training seed than 0 are named by it."""
    seed, name = train_seed(record), " + ".join(filter(None, [defense(record), strategy(record)[0]]))
    return f"{name}, seed {seed}" if seed else name


def data_name(record: Record) -> str:
    """The data set with its parameters and partition, and whether it is synthetic."""
    data = record.dataset
    name = format_ref(PartRef(data.name, data.params_passed))
    return " ".join(filter(None, [name, "(synthetic)" if data.synthetic else "", data.partition]))


def strategy_name(record: Record) -> str:
    """The strategy without parameters; "" where the record does not name one."""
    named = record.defense.strategy
    return named.name if named else ""


#: Parameters of a strategy that a row shows beside its name.
_TRAINED_WITH = ("adversarial", "malicious", "faults", "secure_aggregation", "privacy")


@_once
def strategy(record: Record) -> tuple[str, str]:
    """How the classifier was trained: in short, ``fedavg + pgd``, and as on the command line."""
    named = record.defense.strategy
    if named is None:
        return "", ""
    extras = filter(None, (trained_with(record, what) for what in _TRAINED_WITH))
    return " ".join([named.name, *(f"+ {extra}" for extra in extras)]), formatted(named)


def trained_with(record: Record, what: str) -> str:
    """The component that a parameter of the strategy names, such as the attack of adversarial training; "" for none."""
    named, part = record.defense.strategy, record.defense.parts.strategy
    value = {**(named.params_passed if named else {}), **(part.params if part else {})}.get(what)
    if isinstance(value, Mapping):
        value = value.get("name")
    text = str(value or "").partition(":")[0].strip("[] ")
    return "" if text == "none" else text


def model(record: Record) -> str:
    """The classifier's architecture."""
    part = record.defense.parts.model
    return part.name if part else ""


def parameters(record: Record) -> int | None:
    """Numbers in the deployed networks, where the record says so."""
    counts = record.defense.parameters
    return sum(counts.values()) if counts else None


def eps_text(record: Record) -> str:
    """Eps as people write it."""
    return format_eps(record.threat.eps)
