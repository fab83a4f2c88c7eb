"""`lgg` on drawn volumes in the collection's layout, and on the real ones if they are available."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rbmed_datasets.lgg import Lgg
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")

SPLITS = ("train", "calibration", "test")
HOSPITALS = {"CS": 6, "DU": 5, "EZ": 1}


def make(root: Path | None, **params: object) -> Lgg:
    return Lgg(Lgg.Params(**{"size": 32, **params}), root)


@pytest.fixture
def root(tmp_path: Path, lgg_folders: Callable[..., Path]) -> Path:
    return lgg_folders(tmp_path / "kaggle_3m", HOSPITALS)


def test_splits_are_by_patient_within_each_hospital(root: Path) -> None:
    data = make(root)
    splits = {name: data.split(name) for name in SPLITS}
    patients = [patient for split in splits.values() for patient in set(split.patients)]
    assert len(patients) == len(set(patients)) == 11
    for split in splits.values():
        assert set(split.sites) == {"CS", "DU"}
        assert all(patient.split("_")[1] == site for patient, site in zip(split.patients, split.sites, strict=True))
        for part in split.by_site().values():
            assert set(part.labels.tolist()) == {0, 1}


def test_tensors_are_as_the_interface_says(root: Path) -> None:
    train = make(root, size=24).split("train")
    n = len(train)
    assert train.images.shape == (n, 1, 24, 24)
    assert train.images.dtype == torch.float32
    assert 0 <= train.images.min() < 0.1 < 0.9 < train.images.max() <= 1
    assert train.labels.dtype == torch.int64
    assert train.masks is not None
    assert train.masks.shape == (n, 1, 24, 24)
    assert train.masks.dtype == torch.bool
    assert torch.equal(train.masks.flatten(1).any(1), train.labels == 1)
    assert train.images[train.masks].mean() > 0.85  # the mask lies on the bright disc


def test_the_card_names_hospitals_left_out_and_the_lesion_class(root: Path) -> None:
    card = make(root).card()
    assert card.classes[card.lesion_class or 0] == "tumour"
    assert (card.channels, card.size, card.synthetic) == (1, 32, False)
    assert "hospital EZ left out: 1 patient(s), fewer than 5" in card.notes


def test_slices_come_from_the_chosen_part_of_the_volume(root: Path) -> None:
    whole = make(root, slice_low=0, slice_high=1)
    part = make(root, slice_low=0.35, slice_high=0.85)
    assert sum(len(whole.split(name)) for name in SPLITS) == 11 * 12
    assert sum(len(part.split(name)) for name in SPLITS) == 11 * 6  # ranks 4 to 9 of 12


def test_slices_are_ordered_as_numbers(root: Path, scan: Callable[..., np.ndarray]) -> None:
    # With 12 slices a sort by text would put 10, 11, 12 after 1: a lesion range of 40 to 70 % would then be lost.
    data = make(root, slice_low=0.4, slice_high=0.7)
    assert all(data.split(name).labels.all() for name in SPLITS)


def test_small_lesions_are_dropped_and_counted(root: Path) -> None:
    area = int((np.asarray(Image.open(next(root.glob("TCGA_CS_4000*/*_6_mask.tif")))) > 0).sum())
    kept, dropped = make(root, min_lesion_pixels=area), make(root, min_lesion_pixels=area + 1)
    assert kept.split("train").labels.any()
    assert not dropped.split("train").labels.any()
    assert any(note.startswith("33 slices with a lesion under") for note in dropped.card().notes)
    assert any("no image of class 'tumour' in train" in note for note in dropped.card().notes)


def test_original_rgb_files_give_the_same_data_as_flair_only_files(
    tmp_path: Path, lgg_folders: Callable[..., Path]
) -> None:
    grey = make(lgg_folders(tmp_path / "grey", HOSPITALS)).split("test")
    rgb = make(lgg_folders(tmp_path / "rgb", HOSPITALS, colour=True)).split("test")
    assert torch.equal(grey.images, rgb.images)
    assert grey.masks is not None
    assert rgb.masks is not None
    assert torch.equal(grey.masks, rgb.masks)


@pytest.mark.parametrize("place", ["", "kaggle_3m", "lgg", "lgg/kaggle_3m", "lgg-mri-segmentation/kaggle_3m"])
def test_the_folder_is_found_wherever_the_user_points(
    tmp_path: Path, lgg_folders: Callable[..., Path], place: str
) -> None:
    reference = make(lgg_folders(tmp_path / "reference", HOSPITALS)).card()
    lgg_folders(tmp_path / "given" / place, HOSPITALS)
    assert make(tmp_path / "given").card() == reference


def test_digest_follows_files_and_parameters(root: Path) -> None:
    digest = make(root).card().digest
    assert make(root).card().digest == digest
    assert len({digest, make(root, seed=1).card().digest, make(root, size=24).card().digest}) == 3
    mask = next(root.glob("TCGA_DU_4000*/*_6_mask.tif"))
    Image.new("1", (64, 64)).save(mask)
    assert make(root).card().digest != digest


def test_the_second_time_nothing_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(root).split("train")

    def refuse(self: Lgg) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Lgg, "scans", refuse)
    again = make(root).split("train")
    assert torch.equal(first.images, again.images)
    assert first.patients == again.patients


def test_a_damaged_cache_is_rebuilt(root: Path, cache_home: Path) -> None:
    first = make(root).split("train")
    (stored,) = cache_home.glob("datasets/lgg-*.npz")
    stored.write_bytes(stored.read_bytes()[:1000])
    assert torch.equal(make(root).split("train").images, first.images)
    assert [path.suffix for path in stored.parent.iterdir() if path.is_file()] == [".npz"]  # nothing half-written


def test_a_cache_that_cannot_be_written_is_an_error(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="RBMED_HOME"):
        make(root).card()


def test_bad_roots_are_one_clear_line(tmp_path: Path, lgg_folders: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="--data-root"):
        make(None).card()
    with pytest.raises(DataError, match="not a folder"):
        make(tmp_path / "gone").card()
    with pytest.raises(DataError, match="expected folders TCGA_"):
        make(tmp_path).card()
    with pytest.raises(DataError, match=r"no hospital .* has 5 patients \(found CS 2, DU 3\)"):
        make(lgg_folders(tmp_path / "few", {"CS": 2, "DU": 3})).card()


def test_a_missing_mask_is_an_error_and_a_line_of_check(root: Path) -> None:
    gone = next(root.glob("TCGA_CS_4000*/*_6_mask.tif"))
    gone.unlink()
    with pytest.raises(DataError, match=r"_6\.tif has no mask"):
        make(root).card()
    assert make(root).check() == [f"slice {gone.with_name(gone.name.replace('_mask', ''))} has no mask"]


def test_an_unreadable_slice_is_named(root: Path) -> None:
    bad = next(root.glob("TCGA_DU_4000*/*_6.tif"))
    bad.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=bad.name):
        make(root).split("train")


def test_a_slice_of_more_than_8_bits_is_refused(root: Path) -> None:
    deep = next(root.glob("TCGA_DU_4000*/*_6.tif"))
    Image.fromarray(np.asarray(Image.open(deep)).astype(np.uint16) * 16).save(deep)
    with pytest.raises(DataError, match=rf"{deep.name} has more than 8 bits"):
        make(root).card()


def test_check_finds_every_kind_of_problem(root: Path) -> None:
    assert make(root).check() == []
    folder = next(root.glob("TCGA_CS_4001*"))
    stem = folder.name
    (folder / f"{stem}_1.tif").unlink()  # orphan mask
    (folder / f"{stem}_2.tif").write_bytes(b"rubbish")
    Image.new("L", (32, 32)).save(folder / f"{stem}_3_mask.tif")
    Image.new("L", (64, 64)).save(folder / f"{stem}_4.tif", format="PNG")
    lines = "\n".join(make(root).check())
    assert f"{stem}_1_mask.tif has no slice" in lines
    assert f"{stem}_2.tif is not an image" in lines
    assert f"{stem}_3.tif is 64 x 64 pixels, its mask 32 x 32" in lines
    assert f"{stem}_4.tif holds PNG content" in lines
    assert lines.count("\n") == 3
    with pytest.raises(DataError, match="its mask 32 x 32"):
        make(root, slice_low=0.1).card()


@pytest.mark.parametrize(
    "params", [{"slice_low": 0.9, "slice_high": 0.5}, {"test_fraction": 0.9}, {"min_patients": 2}, {"size": 4}]
)
def test_bad_parameters_are_refused(params: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        Lgg.Params(**params)


def test_real_volumes(shared_data: Path) -> None:
    data = Lgg(Lgg.Params(), shared_data)
    assert data.card().notes == (
        "hospital EZ left out: 1 patient(s), fewer than 5",
        "35 slices with a lesion under 150 pixels left out",
    )
    patients: list[str] = []
    for name in SPLITS:
        for site, part in data.split(name).by_site().items():
            assert site in {"CS", "DU", "FG"}
            assert set(part.labels.tolist()) == {0, 1}
            assert len(set(part.patients)) >= 3
            patients += set(part.patients)
    assert len(patients) == len(set(patients)) == 75


def test_folds_test_every_patient_once(root: Path) -> None:
    whole = make(root)
    folds = [make(root, folds=4, fold=fold) for fold in range(4)]
    tested = [patient for data in folds for patient in sorted(set(data.split("test").patients))]
    assert sorted(tested) == sorted({patient for name in SPLITS for patient in whole.split(name).patients})
    cards = [data.card() for data in folds]
    assert [(card.fold.number, card.fold.of) for card in cards if card.fold] == [(fold, 4) for fold in range(4)]
    assert len({card.fold.pool for card in cards if card.fold}) == 1
    assert len({card.digest for card in cards} | {whole.card().digest}) == 5
    assert "fold 1 of 0 to 3: over all, each patient or group is tested once" in cards[1].notes
    assert "hospital EZ left out: 1 patient(s), fewer than 5" in cards[1].notes
    assert whole.card().fold is None
    other = make(root, folds=4, fold=0, seed=1).card()
    assert other.fold is not None
    assert other.fold.pool not in {card.fold.pool for card in cards if card.fold}


def test_all_folds_are_decoded_once_and_hold_the_same_images(root: Path, cache_home: Path) -> None:
    def held(data: Lgg) -> list[tuple[str, str, int, bytes, bytes]]:
        rows = []
        for split in map(data.split, SPLITS):
            assert split.masks is not None
            images = [image.numpy().tobytes() for image in split.images]
            masks = [mask.numpy().tobytes() for mask in split.masks]
            rows += list(zip(split.patients, split.sites, split.labels.tolist(), images, masks, strict=True))
        return sorted(rows)

    folds = [held(make(root, folds=4, fold=fold)) for fold in range(4)]
    assert len(list(cache_home.glob("datasets/lgg-*.npz"))) == 1
    assert folds == [held(make(root))] * 4


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"folds": 5}, "needs fold=0 to fold=4"),
        ({"folds": 5, "fold": 5}, "fold=5: valid: 0 to 4"),
        ({"fold": 0}, "needs folds=K"),
        ({"folds": 1, "fold": 0}, "valid: 3 or more"),
        ({"folds": 2, "fold": 0}, "valid: 3 or more"),
        ({"folds": 4, "fold": 0, "test_fraction": 0.2}, "test_fraction has no meaning"),
        ({"folds": 4, "fold": 0, "calibration_fraction": 0.8}, "1/4 .* must be below 1"),
    ],
)
def test_folds_that_make_no_sense_are_refused(params: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lgg.Params(**params)


def test_more_folds_than_patients_of_a_hospital(root: Path) -> None:
    with pytest.raises(DataError, match="site 'DU' has 5"):
        make(root, folds=6, fold=0).card()


@pytest.mark.slow
def test_real_volumes_are_sound(shared_data: Path) -> None:
    assert Lgg(Lgg.Params(), shared_data).check() == []
