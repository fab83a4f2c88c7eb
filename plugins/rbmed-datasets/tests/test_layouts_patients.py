"""`imagefolder` on collections whose paths name patients, or that need similar images to stand for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rbmed_datasets.imagefolder import ImageFolder
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")

SPLITS = ("train", "calibration", "test")
Write = Callable[..., Path]


def make(root: Path, **params: object) -> ImageFolder:
    return ImageFolder(ImageFolder.Params(**{"size": 32, **params}), root)


@pytest.fixture
def patients(tmp_path: Path, class_folders: Write) -> Path:
    root = class_folders(tmp_path / "set", {"yes": 24, "no": 24})
    for path in list(root.glob("*/*.png")):
        number = int(path.stem.removeprefix(path.parent.name))
        path.rename(path.with_name(f"P{number // 4:02}-{path.parent.name}_{number}.png"))
    return root


@pytest.mark.parametrize(
    "expression", [r"(P\d+)", r"P\d+", r"(?P<patient>P\d+)-(?P<class>\w+)_", r"(?:yes|no)/(P\d+)-"]
)
def test_patients_are_read_from_paths(patients: Path, expression: str) -> None:
    data = make(patients, patient=expression)
    held = [set(data.split(name).patients) for name in SPLITS]
    assert set.union(*held) == {f"P{number:02}" for number in range(6)}
    assert sum(map(len, held)) == 6
    assert data.card().notes[0] == "48 images of 6 patients, split by patient"


def test_patients_linked_by_copies_stay_in_one_split_under_their_own_names(patients: Path) -> None:
    shutil.copy(patients / "no" / "P00-no_0.png", patients / "no" / "P05-no_copy.png")
    data = make(patients, patient=r"P\d+")
    assert "1 pair of near-duplicates" in data.card().notes[0]
    (home,) = [name for name in SPLITS if "P00" in data.split(name).patients]
    assert "P05" in data.split(home).patients


def test_a_path_without_a_patient_and_a_bad_expression_are_named(patients: Path) -> None:
    (patients / "no" / "P00-no_0.png").rename(patients / "no" / "odd.png")
    with pytest.raises(DataError, match=r"patient=P\\d\+ finds nothing in 1 paths, 'no/odd\.png'"):
        make(patients, patient=r"P\d+").card()
    assert any("finds nothing" in line for line in make(patients, patient=r"P\d+").check())
    with pytest.raises(ValueError, match="not a regular expression"):
        make(patients, patient="(P")


def test_numbers_of_patients_begin_anew_at_every_site(tmp_path: Path, class_folders: Write) -> None:
    class_folders(tmp_path / "A", {"yes": 8, "no": 8}, seed=1)
    class_folders(tmp_path / "B", {"yes": 8, "no": 8}, seed=2)
    found = make(tmp_path, patient=r"(\d+)\.png")
    assert {patient for name in SPLITS for patient in found.split(name).patients} >= {"A/0", "B/0", "B/7"}
    by_name = make(tmp_path, site=r"(yes|no)\d")
    assert set(by_name.split("train").sites) == {"yes", "no"}


def test_similar_images_can_stand_for_a_patient(tmp_path: Path, class_folders: Write) -> None:
    root = class_folders(tmp_path, {"yes": 12, "no": 12})
    noise = np.random.default_rng(0)
    for number in range(6):
        values = np.asarray(Image.open(root / "no" / f"no{number}.png")).astype(float)
        changed = (values + noise.normal(0, 25, values.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(changed).save(root / "no" / f"no{number}b.png")
    assert "are kept together: none found" in make(root).card().notes[0]
    assert "similar=0.9" in make(root).card().notes[0]
    found = make(root, similar=0.9).card().notes[0]
    assert "one patient's, 24 in all: 12 images in 6 groups, the largest of 2" in found
    assert "chained" not in found
    one, other = (np.asarray(Image.open(root / "no" / f"no{at}.png")).astype(float) for at in (7, 8))
    for step in range(1, 9):  # from one image to another one
        mixed = (one * (9 - step) + other * step) / 9
        Image.fromarray(mixed.astype(np.uint8)).save(root / "no" / f"step{step}.png")
    assert "chained into few large groups" in make(root, similar=0.9).card().notes[0]


def test_ids_that_may_be_those_of_one_patient_are_noted(patients: Path) -> None:
    assert not any("written in several ways" in note for note in make(patients, patient=r"P\d+").card().notes)
    for path in patients.glob("no/P0*"):
        path.rename(path.with_name(path.name.replace("P0", "p", 1)))
    (said,) = [note for note in make(patients, patient=r"[Pp]\d+").card().notes if "written in several ways" in note]
    assert said.startswith("6 ids of patients are written in several ways ('P00' = 'p0', 'P01' = 'p1', ")
