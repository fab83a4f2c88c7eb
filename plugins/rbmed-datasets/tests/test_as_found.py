"""Folders, files and tables as hospitals and public collections have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from rbmed_datasets import pixels
from rbmed_datasets.files import natural_key
from rbmed_datasets.imagefolder import ImageFolder
from rbmed_datasets.labelling import in_order
from rbmed_datasets.layout import official_part
from rbmed_datasets.table import Table
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")


def folder(root: Path, **params: object) -> ImageFolder:
    return ImageFolder(ImageFolder.Params(size=32, **params), root)  # type: ignore[arg-type]


def table(root: Path, **params: object) -> Table:
    return Table(Table.Params(size=32, **params), root)  # type: ignore[arg-type]


# --- layouts ---


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *[(name, "train") for name in ("train", "Training_Set", "trainset", "train images", "Train-Data", "training")],
        *[("validation_set", "calibration"), ("test_set", "test"), ("Testing", "test")],
        *[(name, None) for name in ("treatment", "tested", "x_train", "hospital", "trainees", "External_Test")],
    ],
)
def test_names_of_parts_of_a_split(name: str, part: str | None) -> None:
    assert official_part(name) == part


@pytest.mark.parametrize(
    "names", [("training_set", "test_set"), ("trainset", "testset"), ("train_images", "test_images")]
)
def test_parts_of_a_split_are_no_hospitals(
    tmp_path: Path, class_folders: Callable[..., Path], names: tuple[str, str]
) -> None:
    for seed, name in enumerate(names):
        class_folders(tmp_path / name, {"no": 5, "yes": 5}, seed)
    card = folder(tmp_path).card()
    assert any(note.startswith("the official split is not used") for note in card.notes)
    assert not any("sites are folders" in note for note in card.notes)
    assert len(folder(tmp_path, split="official").split("test").labels) == 10


def test_parts_of_a_split_inside_of_classes_are_not_the_classes(
    tmp_path: Path, class_folders: Callable[..., Path]
) -> None:
    for seed, name in enumerate(("healthy", "ill")):
        class_folders(tmp_path / name, {"Train": 6, "test": 4}, seed)
    data = folder(tmp_path, split="official")
    assert data.card().classes == ("healthy", "ill")
    assert {name: len(data.split(name).labels) for name in ("train", "calibration", "test")}["test"] == 8
    assert set(data.split("train").sites) == {"all"}


def test_a_folder_beside_the_official_split_is_named(tmp_path: Path, class_folders: Callable[..., Path]) -> None:
    for seed, name in enumerate(("train", "test", "external_test")):
        class_folders(tmp_path / name, {"no": 4, "yes": 4}, seed)
    (tmp_path / "documents").mkdir()
    line = "folders beside those of the official split are left out: external_test"
    assert line in folder(tmp_path).card().notes


def test_folders_of_systems_are_no_classes(tmp_path: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders(tmp_path, {"no": 5, "yes": 5})
    for name in ("@eaDir", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found", "#recycle"):
        (root / name).mkdir()
        (root / name / "a.png").write_bytes(b"thumbnail")
    assert folder(root).card().classes == ("no", "yes")
    assert not [line for line in folder(root).check() if not line.startswith("note:")]


def test_a_link_to_nothing_is_a_missing_image(tmp_path: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders(tmp_path, {"no": 5, "yes": 5})
    (root / "no" / "annexed.png").symlink_to(tmp_path / ".git" / "annex" / "content")
    (root / "no" / "loop").symlink_to(root)
    problems = [line for line in folder(root).check() if not line.startswith("note:")]
    assert problems == [f"image {root / 'no' / 'annexed.png'} is a link to a file that is not there; fetch it first"]


# --- files ---


@pytest.mark.parametrize("suffix", [".pgm", ".PGM", ".ppm", ".jpe"])
def test_other_endings_of_images_are_read(tmp_path: Path, scan: Callable[..., np.ndarray], suffix: str) -> None:
    image = Image.fromarray(scan(0)).convert("RGB" if suffix == ".ppm" else "L")
    image.save(tmp_path / f"scan{suffix}", format="JPEG" if suffix == ".jpe" else None)
    read = pixels.read(tmp_path / f"scan{suffix}").values
    np.testing.assert_allclose(read.astype(int), scan(0), atol=40 if suffix == ".jpe" else 0)


def test_sixteen_bits_of_a_pgm_stay(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    read = pixels.read(tmp_path / "a.pgm")
    np.testing.assert_array_equal(read.values, values)
    assert read.scale == "unsigned"


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.uint64])
def test_what_only_tifffile_reads_is_checked_too(tmp_path: Path, kind: type) -> None:
    draw = np.random.default_rng(0)
    for n in range(8):
        path = tmp_path / ("no", "yes")[n % 2] / f"{n}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, (draw.random((32, 32)) * 200).astype(kind))
    assert not [line for line in folder(tmp_path).check() if not line.startswith("note:")]


def test_planes_and_channels_that_would_be_dropped_are_refused(tmp_path: Path, scan: Callable[..., np.ndarray]) -> None:
    tifffile.imwrite(
        tmp_path / "volume.tif", np.stack([scan(0)] * 5), volumetric=True, tile=(4, 16, 16), photometric="minisblack"
    )
    with pytest.raises(DataError, match="5 planes"):
        pixels.read(tmp_path / "volume.tif")
    four = np.stack([scan(0).astype(np.uint16)] * 4, -1)
    tifffile.imwrite(tmp_path / "four.tif", four, photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match="has 4 channels, none of which is said to be opacity"):
        pixels.read(tmp_path / "four.tif")


def test_a_palette_of_more_than_256_colours_is_refused(tmp_path: Path) -> None:
    colours = np.zeros((3, 1 << 16), dtype=np.uint16)
    indices = np.arange(64, dtype=np.uint16).reshape(8, 8)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colours)
    with pytest.raises(DataError, match=r"a\.tif has a palette of more than 256 colours"):
        pixels.read(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
@pytest.mark.parametrize("kind", ["whole", "pages"])
def test_white_is_zero_at_every_depth(tmp_path: Path, scan: Callable[..., np.ndarray], bits: int, kind: str) -> None:
    top = (1 << bits) - 1
    values = (scan(1).astype(float) / 255 * top).round().astype(np.uint8 if bits < 9 else np.uint16)
    stored = values == 0 if bits == 1 else top - values
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(1 if kind == "whole" else 2):
            file.write(stored, photometric="miniswhite")
    for page in range(pixels.pages(tmp_path / "a.tif")):
        read = pixels.read(tmp_path / "a.tif", page=page)
        shown = top - read.values if read.inverted else read.values
        assert np.corrcoef(shown.ravel(), values.ravel())[0, 1] > 0.999


# --- tables ---


def listed(root: Path, rows: Callable[[int], str], header: str = "image,label,patient", count: int = 16) -> Path:
    (root / "images").mkdir()
    draw = np.random.default_rng(0)
    for n in range(count):
        Image.fromarray(draw.integers(0, 255, (32, 32), dtype=np.uint8)).save(root / "images" / f"im{n}.png")
    (root / "labels.csv").write_text("\n".join([header, *map(rows, range(count))]))
    return root


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("Data-v1.0/all/images/im{}.png", "Data-v1.0/all at the beginning of the names of images is left out"),
        ("/kaggle/input/images/im{}.png", "/kaggle/input at the beginning of the names of images is left out"),
        ("C:\\data\\images\\im{}.png", "C:/data at the beginning of the names of images is left out"),
        ("IM{}.PNG", "16 names differ from those of the files in case or extension: IM0.PNG is im0.png, "),
        ("im{}.dcm", "16 names differ from those of the files in case or extension: im0.dcm is im0.png, "),
    ],
)
def test_names_that_tables_from_elsewhere_have(tmp_path: Path, name: str, note: str) -> None:
    root = listed(tmp_path, lambda n: f"{name.format(n)},{('no', 'yes')[n % 2]},P{n // 2}")
    notes = table(root).card().notes
    assert any(each.startswith(note) for each in notes), notes


def test_two_beginnings_of_names_are_other_images(tmp_path: Path) -> None:
    root = listed(tmp_path, lambda n: f"{'ab'[n // 8]}/im{n % 8}.png,{('no', 'yes')[n % 2]},P{n // 2}")
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    problems = [line for line in table(root).check() if not line.startswith("note:")]
    assert len(problems) == 8
    assert problems[0].startswith("image b/im0.png (line 10) of table")


def test_images_without_a_row_are_counted(tmp_path: Path) -> None:
    root = listed(tmp_path, lambda n: f"im{n % 12}.png,{('no', 'yes')[n % 2]},P{n % 12 // 2}")
    line = "4 images in the folder have no row with a label and are left out: im12.png, im13.png, im14.png and 1 more"
    assert line in table(root).card().notes


def test_a_column_that_is_no_split_is_named(tmp_path: Path) -> None:
    root = listed(
        tmp_path, lambda n: f"im{n}.png,{('no', 'yes')[n % 2]},P{n // 2},{n % 3}", "image,label,patient,split"
    )
    line = "column 'split' names no parts of a split (0, 1, 2) and is not used"
    assert line in table(root).card().notes


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("im99.png,no,P0", "im{}.png,no,P{}", "its first line is no header: write one, such as image,label"),
        ("image,A,B", "im{},1,0", "no column for the label"),
        ("foo,bar,baz", "im{}.png,no,P{}", r"give path=COLUMN; it has: foo, bar, baz$"),
        ("image|diag", "im{}.png|no", "no column for the label: give label=COLUMN; it has: image, diag$"),
        ("image,label", "im{}.png,N/A", "has the label 'N/A', as tools write a missing value"),
    ],
)
def test_a_table_without_what_is_needed_says_what_to_write(tmp_path: Path, header: str, row: str, message: str) -> None:
    root = listed(tmp_path, lambda n: row.format(n, n // 2), header)
    with pytest.raises(DataError, match=message):
        table(root).card()


def test_columns_of_0_and_1_are_suggested(tmp_path: Path) -> None:
    root = listed(tmp_path, lambda n: f"im{n}.png,{n % 2}.0,{1 - n % 2}", "image,Mass,Edema")
    with pytest.raises(DataError, match=r"columns of 0 and 1 are joined: label=Mass\+Edema$"):
        table(root).card()


def test_a_workbook_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").write_bytes(b"PK\3\4")
    for params in ({}, {"file": "labels.xlsx"}):
        with pytest.raises(DataError, match=r"labels.xlsx is a workbook of Excel; save the sheet as CSV"):
            table(tmp_path, **params).card()


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["1", "0", "-1"], ["-1", "0", "1"]),
        (["1.5", "1.25", "10"], ["1.25", "1.5", "10"]),
        (["y10", "y2", "-1"], sorted(["y10", "y2", "-1"], key=natural_key)),
    ],
)
def test_numbers_are_ordered_by_value(names: list[str], order: list[str]) -> None:
    assert in_order(names) == order


def test_what_stops_a_run_later_is_a_problem_of_the_check(tmp_path: Path) -> None:
    root = listed(
        tmp_path,
        lambda n: f"im{n}.png,{('no', 'yes')[n % 2]},P{n // 4},{('train', 'test')[n // 2 % 2]}",
        "image,label,patient,split",
    )
    problems = [line for line in table(root).check() if not line.startswith("note:")]
    assert [line.partition("; ")[0] for line in problems] == [
        "patient 'P0' is in train and in test of the official split"
    ]
    lines = table(root, split="-").check()
    assert not [line for line in lines if not line.startswith("note:")]


def test_black_first_pages_are_said_to_be_first_pages(tmp_path: Path) -> None:
    page = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    for label in ("no", "yes"):
        (tmp_path / label).mkdir()
        for at in range(4):
            first, second = Image.fromarray(0 * page), Image.fromarray(page + at)
            first.save(tmp_path / label / f"{at}.tif", save_all=True, append_images=[second])
    found = folder(tmp_path).check()
    assert any(line.startswith("every image is blank") for line in found)
    assert any("pages" in line for line in found)
