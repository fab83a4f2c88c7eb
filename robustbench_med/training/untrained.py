"""What of a defense would have to be trained; the rest is at hand, or each client only fits it."""

from __future__ import annotations

from robustbench_med.defenses.resolved import ResolvedDefense, learns
from robustbench_med.defenses.weights import seeds_of, with_part
from robustbench_med.interfaces.dataset import DataCard
from robustbench_med.training.parts import is_trained, part_folder


def untrained(resolved: ResolvedDefense, card: DataCard, seed: int) -> list[str]:
    """The parts that a strategy would have to train with this seed, in the order of their training.

    Not among them: parts that were trained for another defense, a classifier that comes with its weights, and parts
    that each client fits on its own images, as neighbours or moments, which is no training.
    """
    found = []
    for name, key in resolved.training_keys(card).items():
        if _at_hand(resolved, card, name, key, seed):
            continue
        if name == "classifier":
            if resolved.strategy.trains:
                found.append(name)
        elif learns(resolved.learned()[name]):
            shared = resolved.shared_key(name, card)
            if shared in (None, key) or not _at_hand(resolved, card, name, shared, seed):
                found.append(name)
    return found


def ready_seed(resolved: ResolvedDefense, card: DataCard, seed: int | None) -> int | None:
    """The seed with which nothing has to be trained: ``seed``, or without one any; None if something has."""
    tried = [seed] if seed is not None else [*seeds_of(resolved, card), 0]
    return next((each for each in tried if not untrained(resolved, card, each)), None)


def _at_hand(resolved: ResolvedDefense, card: DataCard, name: str, key: str, seed: int) -> bool:
    return is_trained(part_folder(name, key, seed)) or with_part(resolved, card, name, key, seed) is not None
