"""Counts in sentences."""

from __future__ import annotations

import pytest

import robustbench_med as rbmed


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (2, ("image",), "2 images"),
        (1, ("class", "classes"), "1 class"),
        (3, ("class", "classes"), "3 classes"),
        (1, ("cell is", "cells are"), "1 cell is"),
    ],
)
def test_a_count_and_its_noun_agree(count: int, words: tuple[str, ...], said: str) -> None:
    assert rbmed.plural(count, *words) == said
