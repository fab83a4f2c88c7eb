"""Pixels of every depth and kind, exactly as stored; colour; pages."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from rbmed_datasets import checking, pixels
from robustbench_med.errors import DataError

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4096, (20, 30)).astype(np.uint16)
COLOUR = RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16)


def write_png16(path: Path, values: np.ndarray, kind: int) -> None:
    """A PNG of 16 bits a channel: colour type 2 RGB, 4 grey and opacity, 6 RGB and opacity."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(DEEP).save(tmp_path / f"deep.{suffix}")
    found = pixels.read(tmp_path / f"deep.{suffix}")
    assert (found.scale, found.inverted, found.values.dtype) == ("unsigned", False, np.float32)
    np.testing.assert_array_equal(found.values, DEEP)
    assert pixels.deep(tmp_path / f"deep.{suffix}")
    assert checking.problem(tmp_path / f"deep.{suffix}") is None


def test_sixteen_bits_of_each_colour_are_kept(tmp_path: Path) -> None:
    write_png16(tmp_path / "rgb.png", COLOUR, 2)
    tifffile.imwrite(tmp_path / "rgb.tif", COLOUR, photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate")
    for name in ("rgb.png", "rgb.tif", "planes.tif"):
        np.testing.assert_array_equal(pixels.read(tmp_path / name, channels=3).values, COLOUR)
        grey = COLOUR.astype(float) @ (0.299, 0.587, 0.114)
        np.testing.assert_allclose(pixels.read(tmp_path / name).values, grey, rtol=1e-5)
        assert pixels.deep(tmp_path / name)


def test_opacity_of_sixteen_bits_lies_over_black(tmp_path: Path) -> None:
    opacity = np.full((20, 30, 1), 65535, dtype=np.uint16)
    opacity[:5] = 0
    write_png16(tmp_path / "la.png", np.concatenate([COLOUR[..., :1], opacity], axis=-1), 4)
    write_png16(tmp_path / "rgba.png", np.concatenate([COLOUR, opacity], axis=-1), 6)
    grey, colour = pixels.read(tmp_path / "la.png"), pixels.read(tmp_path / "rgba.png", channels=3)
    assert not grey.values[:5].any()
    assert not colour.values[:5].any()
    np.testing.assert_array_equal(grey.values[5:], COLOUR[5:, :, 0])
    np.testing.assert_array_equal(colour.values[5:], COLOUR[5:])


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_numbers_of_every_type_are_read_from_tiff(tmp_path: Path, kind: str, photometric: str) -> None:
    values = (np.linspace(-1, 1, 600).reshape(20, 30) * 100).astype(kind)
    if kind == "uint32":
        values = np.linspace(0, 2**32 - 1, 600).reshape(20, 30).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
    found = pixels.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.values, values.astype(np.float32))
    assert found.scale == {"i": "signed", "u": "unsigned", "f": "float"}[np.dtype(kind).kind]
    assert found.inverted == (photometric == "miniswhite")


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_where_white_is_zero_black_is_not(tmp_path: Path, kind: str) -> None:
    values = np.arange(200, dtype=kind).reshape(10, 20)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    found = pixels.read(tmp_path / "a.tif")
    shown = found.values.astype(float) * (-1 if found.inverted else 1)
    assert shown[0, 0] == shown.max()
    assert shown[-1, -1] == shown.min()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_pixels_that_are_not_finite_are_named(tmp_path: Path, bad: float, kind: str) -> None:
    values = np.ones((8, 8), dtype=kind)
    values[2, 3] = bad
    tifffile.imwrite(tmp_path / "bad.tif", values)
    with pytest.raises(DataError, match=r"bad\.tif has 1 pixel that is not finite"):
        pixels.read(tmp_path / "bad.tif")
    assert "not finite" in str(checking.problem(tmp_path / "bad.tif"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_is_read_as_grey_and_as_colour(tmp_path: Path, scan: Callable[..., np.ndarray], mode: str) -> None:
    source = Image.fromarray(np.stack([scan(0), scan(1), scan(2)], axis=-1))
    if mode == "PA":
        image = source.convert("P")
        image.info["transparency"] = 0
    else:
        image = source.convert(mode)
    suffix = "png" if mode == "PA" else "tif"
    image.save(tmp_path / f"a.{suffix}")
    colour, grey = pixels.read(tmp_path / f"a.{suffix}", channels=3), pixels.read(tmp_path / f"a.{suffix}")
    assert colour.values.shape == (64, 64, 3)
    assert grey.values.shape == (64, 64)
    assert colour.values.dtype == grey.values.dtype == np.uint8
    assert grey.values.max() > 150
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(colour.values, np.asarray(source))


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_colour_that_is_dropped_is_noticed(tmp_path: Path, scan: Callable[..., np.ndarray], mode: str) -> None:
    Image.fromarray(np.stack([scan(0), scan(1), scan(2)], axis=-1)).convert(mode).save(tmp_path / "a.tif")
    assert pixels.read(tmp_path / "a.tif").colour_lost
    assert not pixels.read(tmp_path / "a.tif", channels=3).colour_lost


@pytest.mark.parametrize("name", ["rgb.png", "rgb.tif"])
def test_colour_of_sixteen_bits_that_is_dropped_is_noticed(tmp_path: Path, name: str) -> None:
    (write_png16(tmp_path / name, COLOUR, 2) if name.endswith("png") else tifffile.imwrite(tmp_path / name, COLOUR))
    assert pixels.read(tmp_path / name).colour_lost
    assert not pixels.read(tmp_path / name, channels=3).colour_lost


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_grey_in_a_mode_of_colours_is_no_colour(tmp_path: Path, scan: Callable[..., np.ndarray], mode: str) -> None:
    Image.fromarray(scan(0)).convert(mode).save(tmp_path / "a.tif")
    marked = np.stack([scan(0, side=256)] * 3, axis=-1)
    marked[:8, :60] = (255, 40, 0)  # a label that was drawn onto the scan
    Image.fromarray(marked).save(tmp_path / "marked.jpg", quality=60)
    assert not pixels.read(tmp_path / "a.tif").colour_lost
    assert not pixels.read(tmp_path / "marked.jpg").colour_lost


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_pages_and_frames_are_counted_and_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((16, 16), 60 * k, dtype=np.uint8)) for k in range(4)]
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert pixels.pages(path) == 4
    for page in range(4):
        np.testing.assert_allclose(pixels.read(path, page=page).values.astype(int), 60 * page, atol=2)


def test_orientation_of_deep_images_is_applied(tmp_path: Path) -> None:
    turned = {3: DEEP[::-1, ::-1], 6: np.rot90(DEEP, 1), 8: np.rot90(DEEP, -1), 2: DEEP[:, ::-1]}
    for orientation, stored in turned.items():
        tag = (274, "H", 1, orientation, True)
        tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stored), extratags=[tag])
        np.testing.assert_array_equal(pixels.read(tmp_path / "a.tif").values, DEEP)
        rgb = np.stack([stored] * 3, axis=-1)
        tifffile.imwrite(tmp_path / "b.tif", rgb, photometric="rgb", extratags=[tag])
        np.testing.assert_array_equal(pixels.read(tmp_path / "b.tif", channels=3).values[..., 1], DEEP)


def test_a_tiff_of_many_channels_is_named(tmp_path: Path) -> None:
    many = np.zeros((8, 8, 7), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "many.tif", many, photometric="rgb", planarconfig="contig")
    with pytest.raises(DataError, match=r"many\.tif"):
        pixels.read(tmp_path / "many.tif")


def test_a_pixel_beyond_float32_is_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 600).reshape(20, 30)
    values[3, 4] = 1e300
    tifffile.imwrite(tmp_path / "huge.tif", values)
    with pytest.raises(DataError, match=r"has 1 pixel that is beyond 3.4e38"):
        pixels.read(tmp_path / "huge.tif")
