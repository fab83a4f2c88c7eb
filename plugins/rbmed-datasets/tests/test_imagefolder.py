"""`imagefolder` on drawn scans in the usual layouts, and on the real collection if it is available."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import robustbench_med as rbmed
from rbmed_datasets.imagefolder import ImageFolder
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")

SPLITS = ("train", "calibration", "test")
Write = Callable[..., Path]


def make(root: Path | None, **params: object) -> ImageFolder:
    return ImageFolder(ImageFolder.Params(**{"size": 32, **params}), root)


def total(data: ImageFolder) -> int:
    return sum(len(data.split(name)) for name in SPLITS)


def copy(source: Path, target: Path, change: Callable[[np.ndarray], np.ndarray] = lambda values: values) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(change(np.asarray(Image.open(source)))).save(target)


@pytest.fixture
def br35h(tmp_path: Path, class_folders: Write) -> Path:
    root = class_folders(tmp_path / "Br35H", {"yes": 20, "no": 20})
    class_folders(root, {"pred": 3})
    class_folders(root / "Br35H-Mask-RCNN", {"TRAIN": 2, "TEST": 2})
    return root


def test_br35h_layout(br35h: Path) -> None:
    data = make(br35h)
    card = data.card()
    assert card.classes == ("no", "yes")
    assert card.lesion_class == 1
    assert total(data) == 40  # neither pred/ nor Br35H-Mask-RCNN/
    train = data.split("train")
    assert train.images.shape == (24, 1, 32, 32)
    assert train.images.dtype == torch.float32
    assert train.labels.bincount().tolist() == [12, 12]
    assert set(train.sites) == {"all"}
    assert train.masks is None
    lesions = train.images[train.labels == 1][:, 0, 17, 19]  # inside the drawn disc
    assert (lesions > 0.9).all()


def test_nested_copies_are_found_with_the_same_result(br35h: Path, tmp_path: Path) -> None:
    card = make(br35h).card()
    br35h.rename(tmp_path / "inner")
    (tmp_path / "outer").mkdir()
    (tmp_path / "inner").rename(tmp_path / "outer" / "Br35H")
    assert make(tmp_path / "outer").card() == card


def test_a_second_copy_beside_the_classes_is_not_a_class(br35h: Path, class_folders: Write) -> None:
    class_folders(br35h / "brain_tumor_dataset", {"yes": 5, "no": 5})
    assert make(br35h).card().classes == ("no", "yes")


def test_two_collections_without_common_classes_are_refused(tmp_path: Path, class_folders: Write) -> None:
    class_folders(tmp_path / "one", {"yes": 3, "no": 3})
    class_folders(tmp_path / "two", {"cyst": 3, "polyp": 3})
    with pytest.raises(DataError, match="one, two"):
        make(tmp_path).card()


def test_real_world_files(br35h: Path, scan: Callable[..., np.ndarray]) -> None:
    Image.fromarray(scan(900)).save(br35h / "yes" / "y900.JPG", format="PNG")
    Image.fromarray(scan(901, side=90)[:, :50]).convert("RGB").save(br35h / "yes" / "Y901.jpeg")
    Image.fromarray(scan(902)).convert("RGB").convert("CMYK").save(br35h / "no" / "1 no.jpg")
    (br35h / "no" / "Thumbs.db").write_bytes(b"\0")
    (br35h / "no" / "._no1.jpg").write_bytes(b"\0")
    data = make(br35h)
    assert total(data) == 43
    assert data.check() == [
        f"note: {br35h / 'yes' / 'y900.JPG'} holds PNG content, not what its extension says; it is read anyway"
    ]


def test_colour_mode_does_not_reach_the_images(tmp_path: Path, class_folders: Write) -> None:
    grey = class_folders(tmp_path / "grey", {"yes": 8, "no": 8})
    rgb = class_folders(tmp_path / "rgb", {"yes": 8, "no": 8})
    for path in rgb.glob("yes/*"):
        Image.open(path).convert("RGB").save(path)
    for name in SPLITS:
        assert torch.equal(make(grey).split(name).images, make(rgb).split(name).images)


def test_twins_share_a_patient_and_a_split(br35h: Path) -> None:
    for i in range(10):
        copy(br35h / "no" / f"no{i}.png", br35h / "no" / f"copy{i}.png", lambda v: (v * 0.7 + 10).astype(np.uint8))
    data = make(br35h)
    patients = [set(data.split(name).patients) for name in SPLITS]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 40
    assert total(data) == 50
    assert "20 images in 10 groups, the largest of 2" in data.card().notes[0]


def test_names_joined_by_plus_are_read_from_the_command_line(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"no": 6, "yes": 6, "other": 6})
    merged = rbmed.load_dataset("imagefolder:size=32,classes=yes+no+other,lesion=yes+other", data_root=root).card()
    assert merged.digest == make(root, classes=("yes", "no", "other"), lesion=("yes", "other")).card().digest
    assert merged.classes == ("no lesion", "lesion")


def test_folds_are_of_groups_and_not_of_an_official_split(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"no": 8, "yes": 8})
    for at in range(3):  # twins stay in one fold
        copy(root / "no" / f"no{at}.png", root / "no" / f"twin{at}.png")
    whole = make(root)
    tested = [patient for fold in range(4) for patient in set(make(root, folds=4, fold=fold).split("test").patients)]
    assert sorted(tested) == sorted({patient for name in SPLITS for patient in whole.split(name).patients})
    assert len(tested) == 16
    for part in ("train", "test"):
        class_folders(tmp_path / "official" / part, {"no": 8, "yes": 8}, seed=len(part))
    with pytest.raises(DataError, match=r"folds=4 of data set 'imagefolder' .* official split is kept"):
        make(tmp_path / "official", split="official", folds=4, fold=0).card()


def test_the_official_split_is_pooled_and_its_leak_reported(tmp_path: Path, class_folders: Write) -> None:
    root = tmp_path / "set"
    class_folders(root / "Training", {"glioma": 12, "notumor": 12}, seed=1)
    class_folders(root / "Testing", {"glioma": 5, "notumor": 5}, seed=2)
    for i in range(3):
        copy(root / "Training" / "notumor" / f"notumor{i}.png", root / "Testing" / "notumor" / f"twin{i}.png")
    # A copy inside the official test part is no leak from training.
    copy(root / "Testing" / "glioma" / "glioma0.png", root / "Testing" / "glioma" / "again.png")
    data = make(root)
    assert total(data) == 38
    (leak,) = [note for note in data.card().notes if "official" in note]
    assert "3 of 14 official test images (21.4%)" in leak
    assert "glioma 0/6, notumor 3/8" in leak


def test_contradicting_labels_are_reported_and_kept_together(br35h: Path) -> None:
    copy(br35h / "no" / "no0.png", br35h / "yes" / "no0.png")
    data = make(br35h)
    (said,) = [note for note in data.card().notes if "another class" in note]
    assert said.startswith("2 images have a near-twin of another class: labels contradict each other (no/no0.png = ")
    homes = [name for name in SPLITS if "no/no0.png" in data.split(name).patients]
    assert len(homes) == 1


def test_the_threshold_decides_what_a_twin_is(br35h: Path, scan: Callable[..., np.ndarray]) -> None:
    noise = np.random.default_rng(0).normal(0, 25, (64, 64))
    copy(br35h / "no" / "no0.png", br35h / "no" / "noisy.png", lambda v: (v + noise).clip(0, 255).astype(np.uint8))
    assert "are kept together: none found" in make(br35h).card().notes[0]
    assert "2 images in 1 group," in make(br35h, near_duplicate_threshold=0.9).card().notes[0]


def test_classes_can_be_chosen_ordered_and_merged(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"glioma": 6, "meningioma": 7, "notumor": 8, "pituitary": 9})
    assert make(root).card().classes == ("glioma", "meningioma", "notumor", "pituitary")
    assert make(root).card().lesion_class is None
    chosen = make(root, classes="notumor+glioma")
    assert chosen.card().classes == ("notumor", "glioma")
    assert total(chosen) == 14
    merged = make(root, lesion=("glioma", "meningioma", "pituitary"))
    assert merged.card().classes == ("no lesion", "lesion")
    assert merged.card().lesion_class == 1
    labels = torch.cat([merged.split(name).labels for name in SPLITS])
    assert labels.bincount().tolist() == [8, 22]


def test_an_empty_class_is_an_error_and_a_line_of_check(br35h: Path) -> None:
    (br35h / "maybe").mkdir()
    with pytest.raises(DataError, match="maybe holds no images"):
        make(br35h).card()
    assert make(br35h).check() == [f"class folder {br35h / 'maybe'} holds no images"]


def test_an_unreadable_image_is_named(br35h: Path) -> None:
    (br35h / "yes" / "yes3.png").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"yes3\.png"):
        make(br35h).card()
    assert len(make(br35h).check()) == 1


def test_bad_roots_and_names_are_one_clear_line(tmp_path: Path, br35h: Path, lgg_folders: Write) -> None:
    with pytest.raises(DataError, match="--data-root"):
        make(None).card()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected <class>/<image>"):
        make(tmp_path / "empty").card()
    with pytest.raises(DataError, match=r"no class 'glioma'.* no, yes"):
        make(br35h, classes=("no", "glioma")).card()
    with pytest.raises(DataError, match="two classes"):
        make(br35h, classes=("no",)).card()
    with pytest.raises(DataError, match="without a lesion"):
        make(br35h, lesion=("no", "yes")).card()
    with pytest.raises(DataError, match="is it 'lgg'"):
        make(lgg_folders(tmp_path / "kaggle_3m", {"CS": 2})).card()


def test_digest_follows_files_names_and_parameters(br35h: Path) -> None:
    digest = make(br35h).card().digest
    assert make(br35h).card().digest == digest
    assert make(br35h, seed=1).card().digest != digest
    (br35h / "no" / "no1.png").rename(br35h / "no" / "no100.png")
    assert make(br35h).card().digest != digest


@pytest.mark.slow
def test_real_collection(shared_data: Path) -> None:
    data = ImageFolder(ImageFolder.Params(), shared_data / "brain-tumor-mri")
    grouped, leak, _ = data.card().notes
    assert "6438 images" in grouped
    assert "371 of 1186 official test images (31.3%)" in leak
    assert "notumor 257/280" in leak
    assert total(data) == 6438
    (said,) = data.check()
    assert said.startswith("note: 406 images are exact copies of others")


def test_masks_taken_for_images_are_nearly_black_also_in_the_check(tmp_path: Path) -> None:
    """Label maps are saved as 0 and 1 of 255."""
    for at in range(12):
        path = tmp_path / ("no", "yes")[at % 2] / f"{at}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(at).integers(0, 2, (32, 32), dtype=np.uint8)).save(path)
    data = make(tmp_path)
    assert any("nearly black" in line for line in data.check())
    assert any("nearly black" in line for line in data.card().notes)


def test_locks_of_office_programs_are_no_images(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"no": 6, "yes": 6})
    before = make(root).card().digest
    (root / "no" / "~$no0.png").write_bytes(b"\x05owner")
    assert make(root).card().digest == before
    assert all(line.startswith("note:") for line in make(root).check())
