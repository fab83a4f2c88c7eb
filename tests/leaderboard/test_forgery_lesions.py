"""Measurements of lesions that a forger makes up: the curve by lesion size would show them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from helpers.forgery import Facts
from helpers.published import lines, told

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.sources import image_results
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.lesion_sizes import checked_lesions
from robustbench_med.records.record import Record, parse


def grown(record: Facts, images: Facts) -> None:
    images["lesions"]["radius"] = [value and value + 1 for value in images["lesions"]["radius"]]


def invented(record: Facts, images: Facts) -> None:
    images["lesions"]["radius"] = [5.0 if value is None else value for value in images["lesions"]["radius"]]


def test_images_without_a_lesion_have_no_measurements() -> None:
    assert any("radius of the lesions is not that of" in each for each in told("bare", invented))


def test_a_lesion_has_one_size_in_all_results() -> None:
    record, images = map(json.loads, lines("bare"))
    other = {**record, "cell_id": "f" * 16}, {**images, "cell_id": "f" * 16}

    def both() -> tuple[list[Record], Mapping[str, ImageResults]]:
        results = [image_results.parse(json.dumps(each)) for each in (images, other[1])]
        return [parse(json.dumps(each)) for each in (record, other[0])], {each.cell_id: each for each in results}

    checked_lesions(*both())
    other = other[0], json.loads(json.dumps(other[1]))
    grown(*other)
    with pytest.raises(DataError, match="cell ffffffffffffffff says that radius of the lesion of image"):
        checked_lesions(*both())
