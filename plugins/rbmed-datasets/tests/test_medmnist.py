"""`medmnist` on drawn files of its layout, and downloads from a local server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rbmed_datasets.medmnist import MedMnist
from robustbench_med import COLOUR_LOST
from robustbench_med.errors import DataError
from robustbench_med.testing import cases

pytestmark = pytest.mark.usefixtures("cache_home")

COUNTS = {"train": 12, "val": 4, "test": 6}


def make(root: Path, **params: object) -> MedMnist:
    return MedMnist(MedMnist.Params(**{"size": 16, **params}), root)


def write(path: Path, shape: tuple[int, ...] = (28, 28), classes: int = 2, **arrays: Any) -> Path:
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for part, count in COUNTS.items():
        made[f"{part}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        made[f"{part}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    np.savez_compressed(path, **{**made, **arrays})
    return path


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_official_splits_and_names_of_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "breastmnist_64.npz", (64, 64))
    data = make(tmp_path, md5=md5(path).upper())
    card = data.card()
    assert (card.classes, card.lesion_class, card.patients_known) == (("malignant", "normal, benign"), 0, False)
    assert [len(data.split(name)) for name in ("train", "calibration", "test")] == [12, 4, 6]
    assert data.split("test").labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert f"MD5 {md5(path)}, verified" in card.notes
    assert make(path, md5=md5(path)).card().digest == card.digest
    assert all(line.startswith("note:") for line in data.check())


def test_native_size_is_kept_bit_for_bit(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.npz", (28, 28, 3), classes=3)
    data = make(tmp_path, size=28, channels=3)
    with np.load(path) as stored:
        expected = torch.from_numpy(stored["test_images"]).permute(0, 3, 1, 2) / 255
    assert torch.equal(data.split("test").images, expected)
    assert data.card().classes == ("0", "1", "2")
    assert "not verified: no digest is known of this file" in data.card().notes[0]
    assert f"images are {COLOUR_LOST}" in make(tmp_path).card().notes


def test_volumes_give_slices_of_one_patient(tmp_path: Path) -> None:
    write(tmp_path / "mine3d.npz", (8, 28, 28))
    assert len(make(tmp_path).split("train")) == 12
    three = make(tmp_path, slices=3).split("train")
    assert (len(three), len(set(three.patients))) == (36, 12)
    assert len(make(tmp_path, slices=0).split("test")) == 48


def test_a_file_with_an_official_name_and_another_md5_is_read_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "breastmnist.npz")
    said = f"MD5 {md5(path)} is not the official 750601b1f35ba3300ea97c75c52ff8f6: another edition of breastmnist.npz"
    assert any(note.startswith(said) for note in make(tmp_path).card().notes)
    assert len(make(tmp_path).split("train")) == 12
    with pytest.raises(DataError, match=r"not the given 0{32}"):
        make(tmp_path, md5="0" * 32).card()


def _findings(width: int) -> dict[str, np.ndarray]:
    counts = {"train": 12, "val": 4, "test": 6}
    return {
        f"{part}_labels": (np.arange(count * width).reshape(count, width) % 3 == 0).astype(np.uint8)
        for part, count in counts.items()
    }


def test_chestmnist_has_several_findings_and_retinamnist_grades(tmp_path: Path) -> None:
    write(tmp_path / "chestmnist.npz", **_findings(14))
    data = make(tmp_path, file="chestmnist.npz")
    card = data.card()
    assert (card.task, len(card.classes), card.classes[0], card.lesion_class) == (
        *("multi-label", 14, "atelectasis"),
        None,
    )
    assert data.split("test").labels.tolist() == _findings(14)["test_labels"].tolist()
    write(tmp_path / "retinamnist.npz", (28, 28, 3), classes=5)
    assert make(tmp_path, file="retinamnist.npz").card().task == "ordinal"
    write(tmp_path / "mine.npz", **_findings(2))
    assert make(tmp_path, file="mine.npz").card().classes == ("0", "1")


def test_findings_that_do_not_fit_the_set_are_one_line(tmp_path: Path) -> None:
    write(tmp_path / "chestmnist.npz", **_findings(13))
    with pytest.raises(DataError, match=r"has 13 findings; chestmnist has 14"):
        make(tmp_path).card()
    write(tmp_path / "chestmnist.npz", **{**_findings(14), "val_labels": np.zeros((4, 1), dtype=np.uint8)})
    with pytest.raises(DataError, match="another number of labels for each image in train, val and test"):
        make(tmp_path).card()
    write(tmp_path / "chestmnist.npz", **{**_findings(14), "val_labels": np.full((4, 14), 2, dtype=np.uint8)})
    with pytest.raises(DataError, match=r"val_labels are uint8 .* not 0 and 1 for each image"):
        make(tmp_path).card()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"val_images": np.zeros((4, 28, 28), dtype=np.float32)}, "val_images are float32"),
        ({"val_labels": np.zeros((3, 1), dtype=np.uint8)}, r"val_labels are uint8 \(3, 1\), not 4 whole numbers"),
        ({"val_images": np.array(["a"], dtype=object)}, "cannot read val_images"),
        ({"val_images": np.zeros((4, 28, 14), dtype=np.uint8)}, "images of several shapes"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    write(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        make(tmp_path).card()
    assert "\n" not in str(caught.value)


def test_which_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of MedMNIST"):
        make(tmp_path).card()
    for name in ("a", "b"):
        write(tmp_path / f"{name}.npz")
    with pytest.raises(DataError, match=r"2 files of MedMNIST \(a\.npz, b\.npz\); choose one"):
        make(tmp_path).card()
    assert make(tmp_path, file="a.npz").card().classes == ("0", "1")
    with pytest.raises(DataError, match="is no name of a"):
        make(tmp_path, file="../a.npz").card()
    (tmp_path / "c.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="is no file of MedMNIST"):
        make(tmp_path, file="c.npz").card()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "served"))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_download(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    path, home = write(tmp_path / "served" / "breastmnist.npz"), tmp_path / "home"
    home.mkdir()
    with pytest.raises(DataError, match=r"there is no file .*; download=true fetches it"):
        make(home, file="breastmnist.npz", url=server).card()
    wanted = {"url": server, "download": True}
    with pytest.raises(DataError, match=r"what http://.*/breastmnist\.npz sent has the MD5 .* not the official"):
        make(home, file="breastmnist.npz", **wanted).card()
    with pytest.raises(DataError, match=r"cannot download http://.*404"):
        make(home, file="pathmnist.npz", **wanted).card()
    with pytest.raises(DataError, match="is no official file of MedMNIST; give its digest"):
        make(home, file="other.npz", **wanted).card()
    assert list(home.iterdir()) == []
    data = make(home, file="breastmnist.npz", md5=md5(path), **wanted)
    assert len(data.split("train")) == 12
    assert (home / "breastmnist.npz").read_bytes() == path.read_bytes()
    assert make(home, md5=md5(path)).card().digest == make(home, file="", md5=md5(path), url=server).card().digest


def test_conformance(tmp_path: Path) -> None:
    write(tmp_path / "mine.npz")
    every = cases("rbmed-datasets", {"dataset/medmnist": "size=16"}, tmp_path)
    chosen = [case for case in every if "medmnist" in str(case)]
    assert chosen
    for case in chosen:
        assert not case.check.on(case.subject).faults, str(case)


def test_findings_conform_too(tmp_path: Path) -> None:
    write(tmp_path / "mine.npz", **_findings(1 + 2))
    every = cases("rbmed-datasets", {"dataset/medmnist": "size=16"}, tmp_path)
    for case in (case for case in every if "medmnist" in str(case)):
        assert not case.check.on(case.subject).faults, str(case)


def test_a_folder_without_a_file_of_medmnist_is_no_set_with_problems(tmp_path: Path) -> None:
    """`rbmed data check` would offer it beside the data set that the folder holds."""
    with pytest.raises(DataError, match="no file of MedMNIST"):
        make(tmp_path).check()


def test_grey_images_with_a_channel_of_their_own_are_images_and_no_volumes(tmp_path: Path) -> None:
    plain = make(write(tmp_path / "mine.npz"), size=28)
    with np.load(tmp_path / "mine.npz") as stored:
        arrays = dict(stored)
    for name, at in {"last.npz": -1, "first.npz": 1}.items():
        images = {key: np.expand_dims(value, at) for key, value in arrays.items() if key.endswith("images")}
        made = make(write(tmp_path / name, **images), size=28)
        assert torch.equal(made.split("test").images, plain.split("test").images)
        assert not any("volumes of" in line for line in made.card().notes)


@pytest.mark.parametrize("shape", [(3, 28, 28), (28, 28, 4), (28, 28, 2), (28, 4, 28)])
def test_channels_that_do_not_come_last_and_opacity_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write(tmp_path / "mine.npz", shape)
    with pytest.raises(DataError, match=r"channels last and without opacity"):
        make(tmp_path).card()


def test_one_hot_labels_are_classes(tmp_path: Path) -> None:
    labels = {f"{part}_labels": np.eye(3, dtype=np.uint8)[np.arange(n) % 3] for part, n in COUNTS.items()}
    data = make(write(tmp_path / "mine.npz", **labels))
    assert (data.card().task, data.card().classes) == ("multi-class", ("0", "1", "2"))
    assert data.split("test").labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert any("one-hot" in line for line in data.card().notes)
    labels["test_labels"][0] = 1
    assert make(write(tmp_path / "mine.npz", **labels)).card().task == "multi-label"


def test_blank_and_nearly_black_images_are_said(tmp_path: Path) -> None:
    shapes = {f"{part}_images": (n, 28, 28) for part, n in COUNTS.items()}
    write(tmp_path / "mine.npz", **{name: np.full(shape, 7, np.uint8) for name, shape in shapes.items()})
    assert make(tmp_path).check() == [f"every image of {tmp_path / 'mine.npz'} is blank (one value in all pixels)"]
    dark = {name: np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) % 2 for name, shape in shapes.items()}
    write(tmp_path / "mine.npz", **{name: values.astype(np.uint8) for name, values in dark.items()})
    assert any("the images are nearly black" in line for line in make(tmp_path).check())
