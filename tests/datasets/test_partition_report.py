"""What each client holds, counted and plotted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robustbench_med.datasets.partition_report import COLOURS, Holdings, holdings, picture, summary
from robustbench_med.errors import BadParameter
from robustbench_med.interfaces.dataset import DataCard, Dataset, Split


class Four(Dataset):
    """Four patients with two images each; two clients in training, one elsewhere, none in test."""

    def __init__(self, *classes: str) -> None:
        super().__init__()
        self.classes = classes or ("no", "yes")

    def card(self) -> DataCard:
        return DataCard("four", self.classes, 1, 2, "none", "none", digest="four", synthetic=True)

    def split(self, name: str) -> Split:
        labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
        sites = tuple("xxxxyyyy" if name == "train" else "x" * 8)
        whole = Split(torch.zeros(8, 1, 2, 2), labels, tuple("aabbccdd"), sites)
        return whole.select(torch.arange(0 if name == "test" else 8))


@pytest.fixture
def held() -> Holdings:
    return holdings(Four())


def test_patients_images_and_skew_are_counted(held: Holdings) -> None:
    assert held.clients == ("x", "y")
    assert held.patients.tolist() == [[2, 2], [4, 0], [0, 0]]
    assert held.images.tolist() == [[[3, 1], [1, 3]], [[4, 4], [0, 0]], [[0, 0], [0, 0]]]
    assert (held.skew(), held.skew("calibration"), held.skew("test")) == (0.25, 0, None)
    assert summary(held).startswith("2 clients with 4 training images each; label distributions differ by 0.25 (")


def test_a_picture_names_everything_and_says_synthetic(tmp_path: Path) -> None:
    classes = tuple(f"${at}$ & <class>" for at in range(len(COLOURS) + 1))
    picture(holdings(Four(*classes)), "site", tmp_path / "four.svg")
    text = (tmp_path / "four.svg").read_text(encoding="utf-8")
    for part in ("four (synthetic), partition site", "train: 8 images", "test: 0 images", "$8$ &amp; &lt;class"):
        assert part in text
    assert all(colour.lower() in text for colour in COLOURS[:2])


def test_a_picture_in_another_format_is_refused(held: Holdings, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"four\.pdf: a picture is written as FILE\.png or FILE\.svg"):
        picture(held, "site", tmp_path / "four.pdf")
    assert not list(tmp_path.iterdir())
