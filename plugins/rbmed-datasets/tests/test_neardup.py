"""Near-duplicates among drawn scans whose relations are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rbmed_datasets import neardup

Draw = Callable[..., np.ndarray]


def brighter(image: np.ndarray) -> np.ndarray:
    return (image * 0.6 + 20).round().astype(np.uint8)


def test_copies_and_brightness_changes_are_twins_and_other_scans_are_not(scan: Draw) -> None:
    images = np.stack([scan(0), scan(1), scan(0), brighter(scan(0)), scan(2)])
    assert neardup.near_duplicate_pairs(images, 0.995).tolist() == [[0, 2], [0, 3], [2, 3]]


def test_pairs_equal_a_plain_correlation_matrix_across_chunks(scan: Draw, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    base = np.stack([scan(seed, side=16) for seed in range(40)]).repeat(5, axis=0).astype(float)
    images = (base + rng.normal(0, 12, base.shape)).clip(0, 255).astype(np.uint8)
    monkeypatch.setattr(neardup, "_CHUNK", 17)
    threshold = 0.9
    seen = []
    pairs = neardup.near_duplicate_pairs(images, threshold, seen.append)
    wanted = np.argwhere(np.triu(np.corrcoef(images.reshape(len(images), -1).astype(float)) > threshold, 1))
    assert len(wanted) > 100
    np.testing.assert_array_equal(pairs, wanted)
    assert sum(seen) == len(images)


def test_blank_images_have_no_near_duplicates() -> None:
    assert not len(neardup.near_duplicate_pairs(np.full((3, 8, 8), 7, dtype=np.uint8), 0.5))


def test_no_images_no_pairs() -> None:
    assert neardup.near_duplicate_pairs(np.empty((0, 8, 8), dtype=np.uint8), 0.9).shape == (0, 2)


def test_a_chain_is_one_group() -> None:
    pairs = np.array([[0, 3], [3, 4], [1, 5]])
    ids = neardup.groups(pairs, 6)
    assert ids[0] == ids[3] == ids[4]
    assert ids[1] == ids[5]
    assert len(set(ids.tolist())) == 3
    assert len(set(neardup.groups(np.empty((0, 2), dtype=np.int64), 4).tolist())) == 4


def test_twins_across_counts_only_the_given_part() -> None:
    part = np.array([False, False, True, True, True])
    pairs = np.array([[0, 2], [0, 1], [3, 4]])
    assert neardup.twins_across(pairs, part).tolist() == [False, False, True, False, False]
    assert neardup.twins_across(pairs, ~part).tolist() == [True, False, False, False, False]
