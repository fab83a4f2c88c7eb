"""Measurements of lesions that a forger makes up: the curve by lesion size would show them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.forgery import Facts, put
from helpers.published import BOARD, lines, told

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.sources import image_results
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.lesion_sizes import checked_lesions
from robustbench_med.leaderboard.sources.submission import Submission, write
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


def test_a_class_of_lesions_that_the_data_set_does_not_name() -> None:
    found = told("no patients", put("dataset", "lesion_class", value=1))
    assert "lesion_class of the data set is 1, not None" in found


def test_a_file_outside_the_folder_is_compared_with_what_is_published(tmp_path: Path) -> None:
    record, images = map(json.loads, lines("bare"))
    for facts in (record, images):
        facts["cell_id"] = "f" * 16
    grown(record, images)
    made, results = parse(json.dumps(record)), image_results.parse(json.dumps(images))
    file = tmp_path / "mine.json"
    write(file, Submission("mine", "undefended", Paper("P", "https://example.org"), "", (made,), {"f" * 16: results}))
    done = invoke("leaderboard", "check", file, "--root", BOARD)
    assert done.exit_code == 2
    assert "radius of the lesion of image" in done.stderr
