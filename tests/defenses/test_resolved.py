"""What records and ids of cells have of the parts of a defense."""

from __future__ import annotations

from robustbench_med.defenses.resolved import resolve_defense
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry


def test_a_parameter_that_was_added_later_leaves_published_ids_alone() -> None:
    def strategy(ref: str) -> dict[str, object]:
        found: dict[str, object] = resolve_defense(Registry(), parse(ref)).describe()["strategy"]["params"]
        return found

    published = {
        *("rounds", "local_epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule", "augment", "shift"),
        *("jitter", "noise", "autocast", "adversarial", "malicious", "engine"),
    }
    assert set(strategy("undefended")) == published
    changed = strategy("undefended:strategy=[fedavg:update_limit=500,ema=0.99]")
    assert set(changed) == published | {"update_limit", "ema"}
    assert (changed["update_limit"], changed["ema"]) == (500, 0.99)
