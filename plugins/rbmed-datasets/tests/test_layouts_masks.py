"""`imagefolder` on collections with masks, in folders of their own or beside the images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rbmed_datasets.imagefolder import ImageFolder
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")

SPLITS = ("train", "calibration", "test")
Write = Callable[..., Path]


def make(root: Path, **params: object) -> ImageFolder:
    return ImageFolder(ImageFolder.Params(**{"size": 32, **params}), root)


def note(data: ImageFolder, text: str) -> str:
    (found,) = [line for line in data.card().notes if text in line]
    return found


def covid(root: Path, class_folders: Write) -> Path:
    class_folders(root, {"yes": 10, "no": 10})
    for name in ("yes", "no"):
        (root / name / "images").mkdir()
        (root / name / "masks").mkdir()
        for path in list((root / name).glob("*.png")):
            values = np.asarray(Image.open(path))
            Image.fromarray(((values == 240) * 255).astype(np.uint8)).save(root / name / "masks" / path.name)
            path.rename(root / name / "images" / path.name)
    return root


def mirrored(root: Path, class_folders: Write) -> Path:
    covid(root, class_folders)
    for name in ("yes", "no"):
        for kind in ("images", "masks"):
            (root / kind).mkdir(exist_ok=True)
            (root / name / kind).rename(root / kind / name)
        (root / name).rmdir()
    return root


def busi(root: Path, class_folders: Write) -> Path:
    covid(root, class_folders)
    for name in ("yes", "no"):
        for path in list((root / name / "images").iterdir()):
            mask = root / name / "masks" / path.name
            left, right = np.asarray(Image.open(mask)).copy(), np.asarray(Image.open(mask)).copy()
            left[:, 38:], right[:, :38] = 0, 0  # two lesions
            Image.fromarray(left).save(root / name / f"{path.stem}_mask.png")
            Image.fromarray(right).save(root / name / f"{path.stem}_mask_1.png")
            path.rename(root / name / path.name)
        shutil.rmtree(root / name / "masks")
        (root / name / "images").rmdir()
    return root


@pytest.mark.parametrize("layout", [covid, mirrored, busi])
def test_masks_in_folders_and_beside_the_images(tmp_path: Path, class_folders: Write, layout: Write) -> None:
    data = make(layout(tmp_path / "set", class_folders))
    assert data.card().classes == ("no", "yes")
    test = data.split("test")
    assert test.masks is not None
    assert test.masks.shape == (len(test), 1, 32, 32)
    assert torch.equal(test.masks.flatten(1).any(1), test.labels == 1)
    assert test.images[test.masks].mean() > 0.85
    assert sum(len(data.split(name)) for name in SPLITS) == 20
    assert "lesion masks: 20 of 20 images" in data.card().notes
    assert data.check() == []


def test_an_image_without_a_mask_is_counted_and_one_of_another_size_refused(
    tmp_path: Path, class_folders: Write
) -> None:
    root = covid(tmp_path, class_folders)
    (root / "no" / "masks" / "no3.png").unlink()
    assert "lesion masks: 19 of 20 images; without a mask, no3.png" in note(make(root), "masks")
    Image.new("L", (10, 10)).save(root / "no" / "masks" / "no3.png")
    with pytest.raises(DataError, match=r"no3\.png is 64 x 64 pixels, its mask no3\.png 10 x 10"):
        make(root).card()
