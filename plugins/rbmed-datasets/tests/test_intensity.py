"""The range that becomes black and white, for a whole data set."""

from __future__ import annotations

import numpy as np
import pytest

from rbmed_datasets.decode import Decoded
from rbmed_datasets.decode import decode as decoded
from rbmed_datasets.folder import PictureParams
from rbmed_datasets.imagefolder import ImageFolder
from rbmed_datasets.intensity import Survey, fixed, scaled
from rbmed_datasets.pixels import Pixels
from robustbench_med.errors import DataError

RNG = np.random.default_rng(0)


def survey(window: str, *images: Pixels) -> Survey:
    made = Survey(window)
    for image in images:
        made.add(image)
    return made


def deep(high: float, scale: str = "unsigned", low: float = 0) -> Pixels:
    values = np.linspace(low, high, 64 * 64, dtype=np.float32).reshape(64, 64)
    return Pixels(values, scale)


def test_windows_are_read_as_center_and_width() -> None:
    assert fixed("40/400") == (-160, 240)
    assert fixed("-600/1500") == (-1350, 150)
    assert fixed("file") is None
    assert fixed("percentile") is None
    for bad in ("", "40", "40/0", "40/-1", "a/b", "nan/4", "1/2/3", "inf/3", "minmax"):
        with pytest.raises(ValueError, match="file, percentile, or CENTER/WIDTH"):
            fixed(bad)


@pytest.mark.parametrize(("largest", "white"), [(200, 255), (300, 1023), (1500, 4095), (4095, 4095), (9000, 16383)])
def test_the_largest_value_of_all_files_says_how_many_bits_they_use(largest: int, white: int) -> None:
    found = survey("file", deep(100), deep(largest), deep(7))
    assert found.ranges() == {"unsigned": (0, white)}
    assert f"0 is black, {white} white" in found.notes()[0]


def test_a_dim_file_stays_dimmer_than_a_bright_one() -> None:
    dim, bright = deep(400), deep(4000)
    limits = survey("file", dim, bright).ranges()["unsigned"]
    assert scaled(dim, limits).max() == pytest.approx(400 / 4095)
    assert scaled(bright, limits).max() == pytest.approx(4000 / 4095)


def test_signed_values_and_floats_beyond_one_take_percentiles_of_all_files() -> None:
    for images in ([deep(3000, "signed", -1000)] * 3, [deep(2e-4, "float"), deep(2e-3, "float")], [deep(80, "float")]):
        found = survey("file", *images)
        (low, high) = next(iter(found.ranges().values()))
        everything = np.concatenate([image.values.ravel() for image in images])
        wanted = np.percentile(everything, (0.5, 99.5))
        assert (low, high) == pytest.approx(wanted, abs=0.01 * float(np.ptp(everything)))
        assert "no range is declared" in found.notes()[0]
        assert 0.25 < np.mean([scaled(image, (low, high)).mean() for image in images]) < 0.75


def test_floats_within_zero_and_one_are_intensities_already() -> None:
    assert survey("file", deep(0.2, "float"), deep(0.98, "float")).ranges() == {"float": (0, 1)}


def test_a_fixed_window_cuts_what_is_beyond() -> None:
    image = Pixels(np.array([[-1000, -160, 40, 240, 3000]], dtype=np.float32), "signed")
    limits = survey("40/400", image).ranges()["signed"]
    np.testing.assert_allclose(scaled(image, limits), [[0, 0, 0.5, 1, 1]])


def test_where_white_is_lowest_the_picture_is_inverted() -> None:
    image = Pixels(np.array([[0, 4095]], dtype=np.float32), "unsigned", inverted=True)
    np.testing.assert_allclose(scaled(image, survey("file", image).ranges()["unsigned"]), [[1, 0]])


def test_a_range_that_the_files_state_is_used_for_all_of_a_series() -> None:
    one, other = deep(900, "series-1"), deep(2000, "series-1")
    stated = [
        Pixels(image.values, image.scale, declared=(100.0, high)) for image, high in ((one, 800.0), (other, 900.0))
    ]
    assert survey("file", *stated).ranges() == {"series-1": (100, 900)}
    assert survey("file", one, stated[1]).ranges()["series-1"] != (100, 900)


def test_files_of_different_kinds_are_told_apart_in_a_note() -> None:
    found = survey("file", Pixels(np.zeros((4, 4), dtype=np.uint8)), deep(4000), deep(3000))
    assert found.ranges() == {"8-bit": (0, 255), "unsigned": (0, 4095)}
    assert "1 8-bit, 2 unsigned" in found.notes()[-1]
    assert not found.plain


def test_one_outlier_that_darkens_all_is_noted_and_percentile_avoids_it() -> None:
    hot = deep(900)
    hot.values[0, 0] = 65535
    found = survey("file", hot, deep(900))
    assert "window=percentile" in found.notes()[-1]
    assert survey("percentile", hot, deep(900)).ranges()["unsigned"][1] < 1000


def test_a_column_that_repeats_with_the_width_does_not_fool_the_sample() -> None:
    values = np.full((512, 512), 1000, dtype=np.float32)
    values[:, ::128] = -2000
    low, _ = survey("percentile", Pixels(values, "signed")).ranges()["signed"]
    share = (values == -2000).mean()
    assert share > 0.005
    assert low == -2000


def test_constant_images_have_a_range() -> None:
    (limits,) = survey("percentile", Pixels(np.full((4, 4), 7, dtype=np.float32), "signed")).ranges().values()
    assert limits == (7, 8)


def decode(images: list[Pixels], window: str = "file", size: int = 16) -> Decoded:
    names, params = [f"image {at}" for at in range(len(images))], PictureParams(size=size, window=window)
    return decoded(range(len(images)), names, images.__getitem__, params, ImageFolder().progress)


def test_eight_bits_stay_eight_bits_and_deeper_ones_lose_nothing() -> None:
    fine = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32) * 65535
    found = decode([Pixels(fine, "unsigned"), Pixels(fine[::-1], "unsigned")], size=32)
    np.testing.assert_allclose(found.images[0] * 65535, fine, atol=0.05)
    assert len(np.unique(found.images[0])) > 1000
    plain = decode([Pixels((fine / 257).astype(np.uint8))])
    assert plain.images.dtype == np.uint8
    assert decode([Pixels((fine / 257).astype(np.uint8))], window="128/100").images.dtype == np.float32


def test_blank_images_are_noted_and_nothing_but_blank_ones_refused() -> None:
    blank, picture = Pixels(np.zeros((8, 8), dtype=np.uint8)), Pixels(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert "1 image is blank (one value in all pixels): image 1" in decode([picture, blank]).notes
    with pytest.raises(DataError, match="every image is blank"):
        decode([blank, blank])


def test_colour_keeps_three_channels_and_compares_in_grey() -> None:
    values = RNG.random((30, 20, 3)).astype(np.float32)
    found = decode([Pixels(values, "float")] * 2)
    assert found.images.shape == (2, 16, 16, 3)
    assert found.thumbnails.shape == (2, 64, 64)
