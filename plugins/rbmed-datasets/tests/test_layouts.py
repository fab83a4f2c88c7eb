"""`imagefolder` on the layouts that collections have: official splits, sites, pages, colours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rbmed_datasets.imagefolder import ImageFolder
from robustbench_med import COLOUR_LOST
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")

SPLITS = ("train", "calibration", "test")
Write = Callable[..., Path]


def make(root: Path, **params: object) -> ImageFolder:
    return ImageFolder(ImageFolder.Params(**{"size": 32, **params}), root)


def note(data: ImageFolder, text: str) -> str:
    (found,) = [line for line in data.card().notes if text in line]
    return found


@pytest.fixture
def official(tmp_path: Path, class_folders: Write) -> Path:
    for at, (part, count) in enumerate((("TRAIN", 12), ("Valid", 4), ("test", 6))):
        class_folders(tmp_path / "set" / part, {"yes": count, "no": count}, seed=at)
    return tmp_path / "set"


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "DEV", "TEST")]
)
def test_an_official_split_is_kept_if_wanted(tmp_path: Path, class_folders: Write, names: tuple[str, ...]) -> None:
    for at, (part, count) in enumerate(zip(names, (12, 4, 6), strict=True)):
        class_folders(tmp_path / part, {"yes": count, "no": count}, seed=at)
    data = make(tmp_path, split="official")
    assert [len(data.split(name)) for name in SPLITS] == [24, 8, 12]
    assert all(patient.startswith(names[2]) for patient in data.split("test").patients)
    assert "is kept; its test images have no near-duplicates" in note(data, "official")
    pooled = make(tmp_path)
    assert sum(len(pooled.split(name)) for name in SPLITS) == 44
    assert "is not used (split=official keeps it)" in note(pooled, "official")


def test_calibration_images_come_from_training_where_the_official_split_has_none(official: Path) -> None:
    shutil.rmtree(official / "Valid")
    data = make(official, split="official")
    counts = {name: len(data.split(name)) for name in SPLITS}
    assert counts["test"] == 12
    assert counts["train"] + counts["calibration"] == 24
    assert 3 <= counts["calibration"] <= 6


def test_an_official_split_without_test_or_none_at_all_is_refused(official: Path, class_folders: Write) -> None:
    shutil.rmtree(official / "test")
    with pytest.raises(DataError, match="no test images"):
        make(official, split="official").card()
    with pytest.raises(DataError, match="no official split"):
        make(class_folders(official / "other", {"yes": 4, "no": 4}), split="official").card()


def test_a_leak_of_the_official_split_is_counted_where_it_is_kept(official: Path) -> None:
    shutil.copy(official / "TRAIN" / "no" / "no0.png", official / "test" / "no" / "copy.png")
    data = make(official, split="official")
    assert "leaks and is kept: 1 of 13 official test images (7.7%)" in note(data, "official")
    held = [set(data.split(name).patients) for name in SPLITS]
    assert sum(map(len, held)) == len(set.union(*held))


def test_a_class_that_a_part_of_the_official_split_lacks_is_named(official: Path) -> None:
    shutil.rmtree(official / "test" / "yes")
    data = make(official)
    assert "class 'yes' has no image in the official test split" in data.card().notes
    assert "note: class 'yes' has no image in the official test split" in data.check()


@pytest.mark.parametrize("other", ["YES", "Yes", "y-es"])
def test_class_names_that_differ_in_case_are_refused(official: Path, other: str) -> None:
    (official / "test" / "yes").rename(official / "test" / "tmp")
    (official / "test" / "tmp").rename(official / "test" / other)
    for use in (lambda data: data.card(), lambda data: data.check()):
        with pytest.raises(DataError, match=rf"classes '{other}' .*/test/{other}\) and 'yes' .*/TRAIN/yes"):
            use(make(official))


def test_test_images_in_another_folder(tmp_path: Path, class_folders: Write) -> None:
    class_folders(tmp_path / "mine", {"yes": 10, "no": 10})
    class_folders(tmp_path / "theirs", {"yes": 5, "no": 5}, seed=7)
    data = make(tmp_path / "mine", test_folder="../theirs")
    moved = shutil.copytree(tmp_path / "theirs", tmp_path / "elsewhere" / "on" / "disk")
    assert make(tmp_path / "mine", test_folder=str(moved)).split("test").patients == data.split("test").patients
    assert len(data.split("test")) == 10
    assert all(
        patient.startswith(("test_folder/yes/yes", "test_folder/no/no")) for patient in data.split("test").patients
    )
    with pytest.raises(DataError, match="test_folder=gone"):
        make(tmp_path / "mine", test_folder="gone").card()


def test_sites_are_folders_of_class_folders(tmp_path: Path, class_folders: Write) -> None:
    class_folders(tmp_path / "hospital-A", {"yes": 10, "no": 10}, seed=1)
    class_folders(tmp_path / "hospital-B", {"yes": 8}, seed=2)
    class_folders(tmp_path / "hospital-C", {"no": 1}, seed=3)
    data = make(tmp_path)
    sites = {name: set(data.split(name).sites) for name in SPLITS}
    assert sites == {
        "train": {"hospital-A", "hospital-B", "hospital-C"},
        "calibration": {"hospital-A", "hospital-B"},
        "test": {"hospital-A", "hospital-B"},
    }
    assert "hospital-A, hospital-B, hospital-C" in note(data, "sites are folders")
    assert "site hospital-C has no image of class" in note(data, "site hospital-C")


def test_sites_below_and_above_an_official_split(tmp_path: Path, class_folders: Write) -> None:
    for at, site in enumerate(("A", "B")):
        for part, count in (("train", 6), ("test", 3)):
            class_folders(tmp_path / "one" / site / part, {"yes": count, "no": count}, seed=2 * at + (part == "test"))
            shutil.copytree(tmp_path / "one" / site / part, tmp_path / "other" / part / site)
    for root in (tmp_path / "one", tmp_path / "other"):
        data = make(root, split="official")
        assert len(data.split("test")) == 12
        assert all(set(data.split(name).sites) == {"A", "B"} for name in SPLITS)


def test_two_sites_of_equal_content_are_named_and_leak_nothing(tmp_path: Path, class_folders: Write) -> None:
    class_folders(tmp_path / "A", {"yes": 10, "no": 10})
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    data = make(tmp_path)
    held = [set(data.split(name).patients) for name in SPLITS]
    assert sum(map(len, held)) == len(set.union(*held)) == 20
    assert "note: folders hold the same images: A/no, B/no" in data.check()


def test_a_second_folder_of_equal_content_does_not_show_the_name_of_the_first(
    tmp_path: Path, class_folders: Write
) -> None:
    class_folders(tmp_path / "first", {"yes": 5, "no": 5})
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    one, other = make(tmp_path / "first").card(), make(tmp_path / "second").card()
    assert one == other
    assert "first" not in " ".join(other.notes).split()


def test_parts_of_a_collection_are_no_classes(tmp_path: Path, class_folders: Write) -> None:
    class_folders(tmp_path, {"images_001": 3, "images_002": 3})
    with pytest.raises(DataError, match="parts of one collection"):
        make(tmp_path).card()


def test_what_lies_in_class_folders_and_is_no_image_is_counted(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"yes": 5, "no": 5})
    (root / "yes" / "a.dcm").write_bytes(b"DICM")
    (root / "yes" / "b.DCM").write_bytes(b"DICM")
    (root / "no" / "volume.nii.gz").touch()
    (root / "no" / "IM0001").touch()
    (root / "no" / "x.npy").touch()
    class_folders(root / "no", {"more": 2})
    data = make(root)
    said = "left out of the class folders, as no known images: 2 .dcm, 1 .nii.gz, 1 .npy, 1 folder, 1 without extension"
    assert said in note(data, "left out")
    assert any(line.startswith(f"note: {said}") for line in data.check())


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_not_utf8_are_read_and_stay_text(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"yes": 6, "no": 6})
    for path in list(root.glob("*/*.png")):
        path.rename(path.with_name(os.fsdecode(b"sch\xe4del_") + path.name))
    (root / "yes").rename(root / os.fsdecode(b"\xfcbel"))
    data = make(root)
    assert data.card().classes == (r"\xfcbel", "no")
    names = [patient for name in SPLITS for patient in data.split(name).patients]
    assert len(set(names)) == 12
    assert all(r"sch\xe4del" in name and name.encode() for name in names)
    assert data.check() == []
    assert make(root, classes=r"\xfcbel+no").card().classes == (r"\xfcbel", "no")


def test_the_order_of_classes_is_said_where_other_tools_have_another(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"grade10": 4, "grade2": 5, "Zero": 6})
    data = make(root)
    assert data.card().classes == ("grade2", "grade10", "Zero")
    assert "classes=Zero+grade10+grade2" in note(data, "code point")
    assert make(root, classes="Zero+grade10+grade2").card().classes == ("Zero", "grade10", "grade2")


@pytest.mark.parametrize(("pages", "count"), [("first", 24), ("middle", 24), ("all", 72)])
def test_pages_of_a_stack(tmp_path: Path, scan: Callable[..., np.ndarray], pages: str, count: int) -> None:
    for at in range(24):
        folder = tmp_path / ("yes", "no")[at % 2]
        folder.mkdir(exist_ok=True)
        slices = [Image.fromarray(scan((at, k), lesion=at % 2 == 0 and k == 1)) for k in range(3)]
        slices[0].save(folder / f"{at}.tif", save_all=True, append_images=slices[1:])
    data = make(tmp_path, pages=pages)
    splits = [data.split(name) for name in SPLITS]
    assert sum(map(len, splits)) == count
    assert len({patient for split in splits for patient in split.patients}) == 24
    assert sum(len(set(split.patients)) for split in splits) == 24
    said = [line for line in data.check() if "several pages" in line]
    assert bool(said) == (pages != "all")
    lesions = torch.cat([split.images[split.labels == 1] for split in splits])[:, 0, 17, 19] > 0.9
    assert int(lesions.sum()) in {"first": range(3), "middle": [12], "all": range(12, 15)}[pages]


def test_deep_images_keep_their_order_of_brightness_and_their_depth(
    tmp_path: Path, scan: Callable[..., np.ndarray]
) -> None:
    for at in range(12):
        folder = tmp_path / ("yes", "no")[at % 2]
        folder.mkdir(exist_ok=True)
        values = scan(at).astype(np.uint16) * (16 if at % 2 else 4) + np.arange(64, dtype=np.uint16) % 4
        Image.fromarray(values).save(folder / f"{at}.png")
    data = make(tmp_path, size=64)
    train = data.split("train")
    assert train.images.dtype == torch.float32
    assert "window=file, 12 bits" in note(data, "intensities")
    dark, bright = (train.images[train.labels == label].mean() for label in (1, 0))
    assert 3 < float(bright / dark) < 5
    assert len(train.images.unique()) > 256
    assert note(make(tmp_path, window="percentile"), "intensities") != note(data, "intensities")
    assert make(tmp_path, window="1000/2000").card().digest != data.card().digest


def test_colour_is_kept_with_three_channels(tmp_path: Path, scan: Callable[..., np.ndarray]) -> None:
    for at in range(12):
        folder = tmp_path / ("yes", "no")[at % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.stack([scan(at), scan(at) // 2, scan(at) // 4], axis=-1)).save(folder / f"{at}.png")
    data = make(tmp_path, channels="3", size=64)
    images = data.split("train").images
    assert data.card().channels == 3
    assert images.shape[1:] == (3, 64, 64)
    assert images.is_contiguous()
    torch.testing.assert_close(images[:, 1], images[:, 0] / 2, atol=0.5 / 255 + 1e-6, rtol=0)
    grey, lost = make(tmp_path, size=64), f"12 of 12 images are {COLOUR_LOST}"
    assert lost in grey.card().notes
    assert f"note: {lost}" in grey.check()
    assert not [line for line in (*data.card().notes, *data.check()) if "read as grey" in line]


def test_real_ultrasound(shared_data: Path) -> None:
    data = make(shared_data / "busi")
    assert data.card().classes == ("benign", "malignant", "normal")
    assert sum(len(data.split(name)) for name in SPLITS) == 780
    assert "malignant/malignant (145).png" in note(data, "another class")
    assert any("benign/benign (433).png = malignant/malignant (145).png" in line for line in data.check())


def test_folders_of_other_kinds_of_files_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    for name in ("yes", "no"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jp2").touch()
    with pytest.raises(DataError, match=r"no class folders with images .* 2 \.jp2"):
        make(tmp_path).card()


def test_small_sites_can_be_left_out(tmp_path: Path, class_folders: Write) -> None:
    class_folders(tmp_path / "A", {"yes": 6, "no": 6}, seed=1)
    class_folders(tmp_path / "B", {"no": 1}, seed=2)
    data = make(tmp_path, min_patients=3)
    assert set(data.split("train").sites) == {"A"}
    assert note(data, "left out") == "sites with fewer than 3 patients or groups are left out: B (1)"
    with pytest.raises(DataError, match="no site has 99 patients"):
        make(tmp_path, min_patients=99).card()
