"""`nifti` on small drawn volumes, and on real ones where they are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel import orientations
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import files, volumes
from rbmed_datasets.nifti import Nifti
from robustbench_med.errors import DataError
from robustbench_med.testing import cases

pytestmark = pytest.mark.usefixtures("cache_home")
SPLITS = ("train", "calibration", "test")
SHAPE = (24, 20, 6)


def make(root: Path, **params: object) -> Nifti:
    return Nifti(Nifti.Params(**{"size": 32, **params}), root)


def save(path: Path, values: NDArray[Any], affine: NDArray[Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 3, 1]) if affine is None else affine), path)


def drawn(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    labels = np.zeros(shape, dtype=np.uint8)
    labels[8:14, 5:12, 2:4] = 1
    labels[15:19, 5:9, 3:5] = 2
    noise = np.random.default_rng(seed).normal(size=shape)
    return (200 + 20 * noise + 400 * (labels > 0)).astype(np.float32), labels


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    for at in range(6):
        values, labels = drawn(at)
        save(tmp_path / "imagesTr" / f"case_{at}.nii.gz", values * (1, 1000)[at % 2])
        save(tmp_path / "labelsTr" / f"case_{at}.nii.gz", labels)
    return tmp_path


def everything(data: Nifti, field: str) -> list[Any]:
    return [value for name in SPLITS for value in getattr(data.split(name), field)]


def notes(data: Nifti) -> str:
    return " | ".join(data.card().notes)


def test_label_maps_give_labels_and_masks(decathlon: Path) -> None:
    data = make(decathlon)
    card = data.card()
    assert (card.classes, card.lesion_class) == (("no lesion", "lesion"), 1)
    assert (card.patients_known, card.digest) == (True, make(decathlon).card().digest)
    labels, masks = torch.stack(everything(data, "labels")), torch.stack(everything(data, "masks"))
    assert (len(labels), int(labels.sum())) == (36, 18)
    assert torch.equal(masks.flatten(1).any(dim=1), labels == 1)
    images = torch.stack(everything(data, "images"))
    assert images[masks].mean() > images[~masks].mean() + 0.3, "masks lie on what they mask"
    assert images.flatten(1).amax(dim=1).min() > 0.15, "a volume in other units is not black"
    assert set(everything(data, "patients")) == {f"Tr/case_{at}" for at in range(6)}
    assert not [line for line in data.check() if not line.startswith("note:")]


def test_values_task_and_area(decathlon: Path) -> None:
    assert sum(map(int, everything(make(decathlon, values=(2,)), "labels"))) == 12
    data = make(decathlon, task="largest")
    assert data.card().classes == ("background", "1", "2")
    assert torch.bincount(torch.stack(everything(data, "labels"))).tolist() == [18, 12, 6]
    (decathlon / "dataset.json").write_text('{"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}')
    assert make(decathlon, task="largest").card().classes == ("background", "Anterior", "Posterior")
    few = make(decathlon, min_area=17)
    assert len(everything(few, "labels")) == 30
    assert "6 slices that show less than 17 mm2 are left out" in notes(few)
    with pytest.raises(DataError, match=r"needs two classes or more; .* gives lesion"):
        make(decathlon, pages="middle").card()
    assert len(everything(make(decathlon, slices=4), "labels")) == 24
    with pytest.raises(ValueError, match="whole numbers joined by"):
        Nifti.Params(values="one")


def test_values_joined_by_plus_are_read_from_the_command_line(decathlon: Path) -> None:
    asked = rbmed.load_dataset("nifti:size=32,values=1+2", data_root=decathlon).card()
    assert asked.digest == make(decathlon, values=(1, 2)).card().digest
    assert rbmed.load_dataset("nifti:size=32,values=2", data_root=decathlon).params.values == (2,)  # type: ignore[attr-defined]


def test_orientation_and_spacing_are_respected(tmp_path: Path) -> None:
    values, _ = drawn(0)
    image = nib.Nifti1Image(values, np.diag([2.0, 1, 3, 1]))
    seen = []
    for codes in ("RAS", "LPI", "SAR", "PIR", "ASL"):
        turn = orientations.ornt_transform(orientations.io_orientation(image.affine), orientations.axcodes2ornt(codes))
        nib.save(image.as_reoriented(turn), tmp_path / f"{codes}.nii")
        seen.append(volumes.read(tmp_path / f"{codes}.nii"))
    for one in seen[1:]:
        np.testing.assert_array_equal(one.values, seen[0].values)
        np.testing.assert_allclose(one.affine, seen[0].affine)
    assert seen[0].spacing == (2.0, 1.0, 3.0)
    # RAS file: the last voxel of the second axis is the front, which is the first row; the first column is the right.
    np.testing.assert_array_equal(seen[0].slice("axial", 0), values[::-1, ::-1, -1].T)
    shapes = {
        axis: files.square_pixels(seen[0].slice(axis, 1), seen[0].pixel(axis)).shape
        for axis in ("axial", "coronal", "sagittal")
    }
    assert shapes == {"axial": (20, 48), "coronal": (9, 24), "sagittal": (18, 20)}


def test_several_images_of_a_case_and_4d_files(tmp_path: Path) -> None:
    for at in range(4):
        values, labels = drawn(at)
        save(tmp_path / "brats" / f"B_{at}" / f"B_{at}_flair.nii.gz", values)
        save(tmp_path / "brats" / f"B_{at}" / f"B_{at}_t1.nii.gz", values)
        save(tmp_path / "brats" / f"B_{at}" / f"B_{at}_seg.nii.gz", labels)
        save(tmp_path / "four" / "images" / f"{at}.nii.gz", np.stack([values, values * 0], axis=-1))
        save(tmp_path / "four" / "labels" / f"{at}.nii.gz", labels)
    with pytest.raises(DataError, match="several images; choose one with image=NAME: flair, t1"):
        make(tmp_path / "brats").card()
    assert len(everything(make(tmp_path / "brats", image="flair"), "labels")) == 24
    with pytest.raises(DataError, match="2 images in one file; choose one with image=0 to 1"):
        make(tmp_path / "four").card()
    assert len(everything(make(tmp_path / "four", image="0"), "labels")) == 24


def test_patients_sites_and_class_folders(tmp_path: Path) -> None:
    for at in range(12):
        save(tmp_path / ("healthy", "ill")[at % 2] / f"{'AB'[at // 6]}_P{at // 2}_{at}.nii.gz", drawn(at)[0])
    data = make(tmp_path, patient=r"_(P\d+)_", site="([AB])_", slices=2)
    assert data.card().classes == ("healthy", "ill")
    assert set(everything(data, "sites")) == {"A", "B"}
    assert set(everything(data, "patients")) == {f"{'AB'[n // 3]}/P{n}" for n in range(6)}
    assert data.split("train").masks is None
    (tmp_path / "ids.csv").write_text(
        "\n".join(["file,patient", *(f"{'AB'[n // 6]}_P{n // 2}_{n}.nii.gz,X{n // 4}" for n in range(12))])
    )
    assert set(everything(make(tmp_path, ids="ids.csv"), "patients")) == {"X0", "X1", "X2"}


def test_what_is_left_out_is_said(decathlon: Path) -> None:
    (decathlon / "imagesTr/case_0.nii.gz").unlink()
    (decathlon / "labelsTr/case_1.nii.gz").unlink()
    data = make(decathlon)
    assert "1 label map has no image and is left out: labelsTr/case_0.nii.gz" in notes(data)
    assert "1 image has no label map and is left out: imagesTr/case_1.nii.gz" in notes(data)
    assert len(set(everything(data, "patients"))) == 4


def test_hounsfield_units(tmp_path: Path) -> None:
    for at in range(4):
        values, labels = drawn(at)
        save(tmp_path / "images" / f"{at}.nii", (values - 1000).astype(np.int16))
        save(tmp_path / "labels" / f"{at}.nii", labels)
    assert "Hounsfield" in notes(make(tmp_path))
    fixed = make(tmp_path, window="-600/800")
    assert "window=-600/800, fixed: -1000 is black, -200 white" in notes(fixed)
    assert torch.stack(everything(fixed, "images")).max() < 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), r"cannot read volume .*case_2\.nii\.gz"),
        (lambda path: path.write_bytes(b"no volume"), r"cannot read volume .*case_2\.nii\.gz"),
        (lambda path: save(path, np.full(SHAPE, np.nan, dtype=np.float32)), "case_2.* 2880 pixels that are not finite"),
        (lambda path: save(path, drawn(2, (24, 20, 8))[0]), "has 24 x 20 x 6 voxels, its image .* 24 x 20 x 8"),
        (lambda path: save(path, drawn(2)[0], np.diag([-1.0, 1, 3, 1])), r"case_2.* mm beside its image"),
        (lambda path: save(path, np.zeros((4, 4), dtype=np.float32)), "has 2 dimensions"),
    ],
)
def test_faults_are_one_line(decathlon: Path, fault: Any, message: str) -> None:
    fault(decathlon / "imagesTr/case_2.nii.gz")
    with pytest.raises(DataError, match=message) as caught:
        make(decathlon).card()
    assert "\n" not in str(caught.value)
    assert [line for line in make(decathlon).check() if not line.startswith("note:")] == [str(caught.value)]


def test_folders_without_volumes_or_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no volumes \(\.nii, \.nii\.gz\) under"):
        make(tmp_path).card()
    save(tmp_path / "images" / "a.nii", drawn(0)[0])
    with pytest.raises(DataError, match="no labels for the volumes under"):
        make(tmp_path).card()


def test_conformance(decathlon: Path) -> None:
    chosen = [case for case in cases("rbmed-datasets", {"dataset/nifti": "size=32"}, decathlon) if "nifti" in str(case)]
    assert chosen
    for case in chosen:
        assert not case.check.on(case.subject).faults, str(case)


def test_real_volumes(shared_data: Path) -> None:
    data = make(shared_data / "hippocampus", pages="middle", task="largest")
    text = notes(data)
    assert "2 label maps have no image and are left out: labels/hippocampus_010.nii.gz, labels/hippocampus_281" in text
    assert "1 image has no label map and is left out: images/hippocampus_118.nii.gz" in text
    assert len(set(everything(data, "patients"))) == 260


def test_a_label_map_of_huge_numbers_is_refused(tmp_path: Path) -> None:
    """Their counts would fill the memory."""
    values, labels = drawn(0)
    save(tmp_path / "images" / "a.nii.gz", values)
    save(tmp_path / "labels" / "a.nii.gz", (labels * 1e12).astype(np.float64))
    with pytest.raises(DataError, match="no labels \\(whole numbers from 0 to 65535\\)"):
        make(tmp_path, task="largest").card()


def test_a_header_without_sizes_is_a_note_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values, labels = drawn(0)
    for folder, voxels in {"images": values, "labels": labels}.items():
        image = nib.Nifti1Image(voxels, None)
        image.header["pixdim"][1:4] = 0
        (tmp_path / folder).mkdir()
        nib.save(image, tmp_path / folder / "a.nii.gz")
    capfd.readouterr()
    assert volumes.read(tmp_path / "images" / "a.nii.gz").spacing == (1, 1, 1)
    assert capfd.readouterr().err == ""


def test_several_label_maps_in_one_file_are_refused(tmp_path: Path) -> None:
    values, labels = drawn(0)
    save(tmp_path / "images" / "a.nii.gz", values)
    save(tmp_path / "labels" / "a.nii.gz", np.stack([labels, labels], -1))
    with pytest.raises(DataError, match="2 images in one file; keep one label map in each file"):
        make(tmp_path).card()
