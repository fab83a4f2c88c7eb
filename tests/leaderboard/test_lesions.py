"""Results by size and contrast of the lesions: divided, averaged, kept, and shown."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.board import board, build, entry, outcome
from helpers.outcomes import outcome as measured

from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.leaderboard.ranking.answers import Answers
from robustbench_med.leaderboard.ranking.lesions import by_lesion
from robustbench_med.leaderboard.render.markdown import to_markdown
from robustbench_med.leaderboard.render.page.lesions import lesion_curve
from robustbench_med.leaderboard.sources.image_results import ImageResults, dumped, parse
from robustbench_med.leaderboard.sources.samples import from_samples
from robustbench_med.records import samples
from robustbench_med.runner.checkpoints import Chunk, decode, encode

NONE = math.nan


def with_lesions(**changes: object) -> ImageResults:
    """The eight images of `helpers.board.outcome`; the last four have a lesion of 5, 6, 8.9 and 25 mm."""
    radius = (NONE, NONE, NONE, NONE, 5.0, 6.0, 8.9, 25.0)
    contrast = (NONE, NONE, NONE, NONE, 0.1, 0.12, 0.3, 0.31)
    return replace(outcome(), **{"lesions": {"radius": radius, "contrast": contrast}} | changes)


def test_every_measurement_has_one_range_more_than_edges() -> None:
    assert LESIONS["radius"].ranges == ("under 6", "6 to 9", "9 to 12", "12 to 16", "16 to 20", "20 and more")
    assert LESIONS["contrast"].ranges[:2] == ("under 0.15", "0.15 to 0.20")


def test_images_with_a_lesion_are_divided_by_its_size() -> None:
    ranges = by_lesion([with_lesions()], "radius")
    assert [(each.text, each.images) for each in ranges] == [("under 6", 1), ("6 to 9", 2), ("20 and more", 1)]
    assert [each.clean.value for each in ranges if each.clean] == [1.0, 1.0, 1.0]
    # Of the second range, the first image is broken; the second is rejected on one draw and broken on the other.
    assert [each.worst.value for each in ranges if each.worst] == [1.0, 0.25, 1.0]
    assert ranges[0].low == 5.0
    assert ranges[-1].high == 25.0


def test_an_edge_belongs_to_the_range_above_it() -> None:
    ranges = by_lesion([with_lesions()], "contrast")
    assert [(each.text, each.images) for each in ranges] == [("under 0.15", 2), ("0.30 and more", 2)]


def test_figures_are_means_over_seeds_and_need_all_of_them() -> None:
    safe = with_lesions(attacked=np.stack([outcome().labels] * 2))
    ranges = by_lesion([with_lesions(), safe], "radius")
    assert ranges[1].worst is not None
    assert ranges[1].worst.value == pytest.approx(0.625)
    assert ranges[1].worst.seeds == (0.25, 1.0)
    assert by_lesion([with_lesions(), outcome()], "radius") == []
    assert by_lesion([with_lesions(), None], "radius") == []
    assert by_lesion([], "radius") == []


def test_images_of_one_patient_do_not_make_the_interval_narrower() -> None:
    many = with_lesions(lesions={"radius": (30.0,) * 8})
    own, one = (
        by_lesion([replace(many, patients=patients)], "radius")[0].worst
        for patients in (tuple("abcdefgh"), tuple("aaaabbbb"))
    )
    assert own is not None
    assert one is not None
    assert own.interval is not None
    assert one.interval is not None
    assert one.interval[1] - one.interval[0] > own.interval[1] - own.interval[0]


def test_a_data_set_in_which_no_image_has_a_lesion_has_no_ranges() -> None:
    assert by_lesion([with_lesions(lesions={"radius": (NONE,) * 8})], "radius") == []


def test_the_curve_lies_within_the_axis() -> None:
    ranges = by_lesion([with_lesions()], "radius")
    curve = lesion_curve("radius", ranges)
    assert curve.rows == ranges
    assert curve.title == "Radius of the lesion, mm"
    assert "no attack" in curve.chart
    assert "worst case" in curve.chart
    one = by_lesion([with_lesions(lesions={"radius": (NONE,) * 7 + (7.0,)})], "radius")
    assert lesion_curve("radius", one).chart.count("<circle") >= 2


def test_page_and_markdown_show_them_where_they_are_known(tmp_path: Path) -> None:
    known, unknown = entry("known", answers=(Answers.of(with_lesions()),)), entry("unknown")
    made = [board(known, unknown)]
    build(made, tmp_path)
    pages = {
        name: (tmp_path / "entries" / f"brainsim-linf-4-255.{name}.html").read_text() for name in ("known", "unknown")
    }
    assert "By size and contrast of the lesion" in pages["known"]
    assert "Radius of the lesion, mm" in pages["known"]
    assert "By size and contrast of the lesion" not in pages["unknown"]
    text = to_markdown(made)
    assert text.count("Lesions still found in the worst case") == 2
    row = next(line for line in text.split("Lesions still found")[1].splitlines() if line.startswith("| known"))
    assert "25.0 [" in row
    assert "n=2" in row
    assert row.startswith(f"| known, {known.strategy} |")
    assert "| unknown, " not in text.split("Lesions still found")[1].split("</details>")[0]
    assert "Lesions still found" not in to_markdown([board(unknown)])


def test_they_are_kept_with_the_outcome_of_a_cell() -> None:
    again = parse(dumped(with_lesions()))
    assert set(again.lesions) == {"radius", "contrast"}
    np.testing.assert_equal(again.lesions["radius"], with_lesions().lesions["radius"])
    assert "lesions" not in json.loads(dumped(outcome()))
    assert parse(dumped(outcome())).lesions == {}


@pytest.mark.parametrize(
    ("lesions", "named"),
    [
        ({"volume": [1] * 8}, "'volume' is no measurement; valid: radius, contrast"),
        ({"<script>": [1] * 8}, "is no measurement"),
        ({"radius": [1] * 7}, "radius"),
        ({"radius": [-1] * 8}, "radius"),
        ({"radius": [1e999] * 8}, "Infinity is no number of JSON"),
        ({"radius": ["a"] * 8}, "is no number"),
        ({"radius": 3}, "not iterable"),
        ([1], "another type"),
    ],
)
def test_what_is_no_measurement_is_refused(lesions: object, named: str) -> None:
    facts = json.loads(dumped(outcome())) | {"lesions": lesions}
    with pytest.raises(ValueError, match=named):
        parse(json.dumps(facts))


def test_per_image_results_have_a_column_for_each(tmp_path: Path) -> None:
    plain = measured()
    n = len(plain.labels)
    values = torch.arange(n, dtype=torch.float32)
    values[0] = NONE
    made = replace(plain, lesions={"radius": values, "contrast": values / 10})
    frame = samples.to_frame(made)
    assert frame["lesion_radius"].isna().sum() == len(frame) // n
    assert "lesion_radius" not in samples.to_frame(plain)
    samples.write(made, tmp_path / "abc.parquet")
    again = from_samples(tmp_path / "abc.parquet")
    np.testing.assert_equal(again.lesions["radius"], tuple(values.tolist()))
    samples.write(plain, tmp_path / "def.parquet")
    assert from_samples(tmp_path / "def.parquet").lesions == {}


def test_they_survive_a_checkpoint_a_client_and_a_join() -> None:
    plain = measured()
    made = replace(plain, lesions={"radius": torch.arange(len(plain.labels), dtype=torch.float32)})
    again = decode(encode(Chunk(made))).outcome
    assert torch.equal(again.lesions["radius"], made.lesions["radius"])
    assert decode(encode(Chunk(plain))).outcome.lesions == {}
    site = made.sites[0]
    rows = [i for i, name in enumerate(made.sites) if name == site]
    assert made.at(site).lesions["radius"].tolist() == rows
    assert made.join([made, made]).lesions["radius"].tolist() == made.lesions["radius"].tolist() * 2
