"""What records and ids of cells have of the parts of a defense."""

from __future__ import annotations

import pytest

from robustbench_med.defenses.resolved import ResolvedDefense, resolve_defense
from robustbench_med.errors import BadParameter
from robustbench_med.interfaces.defense import Recipe
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


FEDAVG = "undefended:strategy=[fedavg:rounds=2,adversarial=[pgd:steps=3]]"


@pytest.mark.parametrize(
    ("defense", "given", "told"),
    [
        (FEDAVG, {"strategy": "fedprox"}, r"^--strategy fedprox and strategy=\[fedavg:.*'undefended' differ; give one"),
        (
            "undefended:model=moe",
            {"model": "resnet"},
            r"^--model resnet and model=\[moe\] of defense 'undefended' differ",
        ),
        ("recipe:moe", {"model": "resnet"}, r"^--model resnet and model=\[moe\] of defense 'recipe' differ"),
        (
            FEDAVG,
            {"adversarial": "trades"},
            r"^--adversarial trades and adversarial=\[pgd:steps=3\] of defense 'undefended' differ",
        ),
    ],
)
def test_what_is_asked_for_twice_and_differently_is_refused(defense: str, given: dict[str, str], told: str) -> None:
    with pytest.raises(BadParameter, match=told):
        resolved(defense, **given)


def test_the_same_asked_for_twice_and_what_a_recipe_says_by_itself() -> None:
    assert resolved("undefended:strategy=fedavg", strategy="fedavg").recipe.strategy.name == "fedavg"
    assert resolved("medfedpure", strategy="fedprox", model="resnet").recipe.strategy.name == "fedprox"
    assert "trades" in str(resolved("undefended:strategy=fedprox", adversarial="trades").recipe.strategy)
    plus = resolved("medfedpure-plus:preset=many", adversarial="pgd")  # its preset names TRADES, the reference nothing
    assert plus.recipe.strategy.params["adversarial"] == "pgd"
    assert resolved("undefended:strategy=[fedavg:engine=inprocess]", engine="simulation").strategy is not None


def test_a_parameter_that_is_called_as_a_part_may_mean_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin's defense may vote by a ``strategy``, and a recipe choose the part, as ``auto`` does."""
    found = resolved("medfedpure-plus:strategy=auto", strategy="fedprox")
    assert found.recipe.strategy.name == "fedprox"
    monkeypatch.setattr("rbmed_medfedpure.recipes.undefended.Undefended.recipe", lambda self: Recipe(*PARTS))
    assert resolved("undefended:strategy=max+mean").recipe.strategy == PARTS[1]
    assert resolved("undefended:strategy=max", adversarial="pgd").recipe.strategy.params == {"adversarial": "pgd"}


PARTS = (parse("resnet"), parse("fedavg"))


def resolved(defense: str, model: str = "", strategy: str = "", **options: str) -> ResolvedDefense:
    return resolve_defense(
        Registry(), parse(defense), parse(model) if model else None, parse(strategy) if strategy else None, options
    )
