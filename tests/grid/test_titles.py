"""While a run goes on, each of its cells has a title of its own, which says no more than that takes."""

from __future__ import annotations

from helpers.grids import cells

from robustbench_med.grid.titles import Titles
from robustbench_med.plugins.registry import Registry


def titles(registry: Registry, **options: object) -> list[str]:
    found = cells(registry, **{"baseline": "", **options})
    named = Titles(found)
    return [named.of(cell) for cell in found]


def test_one_cell_is_called_as_defense_attack_and_access(toys: Registry) -> None:
    assert titles(toys, seed=3, eps="1/10") == ["guarded / shift / oblivious"]


def test_what_cells_differ_in_is_said(toys: Registry) -> None:
    assert titles(toys, seed=[0, 1], threat=["linf:4/255", "l2:0.5"]) == [
        "guarded / shift / oblivious, norm linf, eps 4/255, seed 0",
        "guarded / shift / oblivious, norm l2, eps 0.5, seed 0",
        "guarded / shift / oblivious, norm linf, eps 4/255, seed 1",
        "guarded / shift / oblivious, norm l2, eps 0.5, seed 1",
    ]
    assert titles(toys, train_seed=[1, 2]) == [f"guarded / shift / oblivious, train-seed {seed}" for seed in (1, 2)]
    assert titles(toys, client=["a", "b"], each_client=True) == [
        f"guarded / shift / oblivious, client {client}" for client in "ab"
    ]


def test_parameters_are_said_of_a_name_that_several_have(toys: Registry) -> None:
    assert titles(toys, defense=["guarded", "guarded:fpr=0.2", "bare"], attack=["shift", "noise"]) == [
        f"{defense} / {attack} / oblivious"
        for defense in ("guarded", "guarded:fpr=0.2", "bare")
        for attack in ("shift", "noise")
    ]


def test_folds_are_numbers(toys: Registry) -> None:
    assert titles(toys, dataset="imagefolder:size=32,folds=3", data_root="images") == [
        f"guarded / shift / oblivious, fold {fold}" for fold in range(3)
    ]
    both = titles(toys, dataset=["imagefolder:folds=3", "stripes"], data_root="images")
    assert both[-2:] == [
        "guarded / shift / oblivious, data imagefolder:folds=3, fold 2",
        "guarded / shift / oblivious, data stripes",
    ]
