"""Reading single, untrusted image files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rbmed_datasets import checking, files, pixels
from robustbench_med.errors import DataError


def read(path: Path) -> np.ndarray:
    return np.asarray(files.gray(files.load(path)))


def test_content_counts_not_the_extension(tmp_path: Path, scan: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "scan.jpg"
    Image.fromarray(scan(0)).save(path, format="PNG")
    np.testing.assert_array_equal(read(path), scan(0))
    assert checking.problem(path) == f"note: {path} holds PNG content, not what its extension says; it is read anyway"


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "gif"])
def test_lossless_files_are_read_exactly(tmp_path: Path, scan: Callable[..., np.ndarray], suffix: str) -> None:
    path = tmp_path / f"scan.{suffix}"
    Image.fromarray(scan(1)).save(path)
    np.testing.assert_array_equal(read(path), scan(1))
    assert checking.problem(path) is None


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, 1)), (8, lambda a: np.rot90(a, -1)), (2, np.fliplr)],
)
def test_exif_orientation_is_applied(
    tmp_path: Path, scan: Callable[..., np.ndarray], orientation: int, stored: Callable[[np.ndarray], np.ndarray]
) -> None:
    upright = scan(2)[:, :40]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored(upright))).save(tmp_path / "scan.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "scan.png"), upright)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
def test_every_colour_mode_gives_the_same_grey(tmp_path: Path, scan: Callable[..., np.ndarray], mode: str) -> None:
    image = Image.fromarray(scan(3)).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    image.save(tmp_path / "scan.tif")
    assert files.load(tmp_path / "scan.tif").mode == mode
    np.testing.assert_allclose(read(tmp_path / "scan.tif").astype(int), scan(3), atol=1)


def test_transparency_is_black(tmp_path: Path) -> None:
    values = np.full((4, 4, 2), 200, dtype=np.uint8)
    values[:2, :, 1] = 0
    values[2:, :, 1] = 255
    Image.fromarray(values, "LA").save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[:, 0].tolist() == [0, 0, 200, 200]


def test_padding_keeps_proportions_and_squashing_does_not() -> None:
    wide = Image.new("L", (80, 40), 100)
    padded = files.square(wide, 32, "pad")
    assert padded.shape == (32, 32)
    assert (padded[8:24] == 100).all()
    assert not padded[:8].any()
    assert not padded[24:].any()
    assert (files.square(wide, 32, "squash") == 100).all()


def test_shrinking_averages() -> None:
    board = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 200).astype(np.uint8))
    assert np.abs(files.square(board, 16, "pad").astype(int) - 100).max() <= 5


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"not an image", lambda data: b""]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_damaged_files_are_named(
    tmp_path: Path, scan: Callable[..., np.ndarray], suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"scan.{suffix}"
    Image.fromarray(scan(4)).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"scan.{suffix}") as error:
        pixels.read(path)
    assert "\n" not in str(error.value)
    assert checking.problem(path) == str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png"):
        pixels.read(tmp_path / "gone.png")


@pytest.mark.parametrize("side", [9_000, 12_000, 40_000])
def test_a_file_that_claims_gigapixels_is_refused(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(DataError, match=r"bomb\.png.* at most 64000000"):
        files.load(tmp_path / "bomb.png")


def test_postscript_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(DataError, match="not an image"):
        files.load(tmp_path / "scan.png")


def test_names_sort_naturally(tmp_path: Path) -> None:
    for name in ["y10.jpg", "Y2.JPG", "y1.jpeg", "1 no.png", ".hidden.png", "notes.txt", "_x.tif"]:
        (tmp_path / name).touch()
    assert [path.name for path in files.images_in(tmp_path)] == ["1 no.png", "_x.tif", "y1.jpeg", "Y2.JPG", "y10.jpg"]
