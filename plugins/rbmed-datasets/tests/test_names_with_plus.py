"""Names of classes and columns with the signs that join names on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import robustbench_med as rbmed
from rbmed_datasets.names import rejoined, split_at_plus
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("no+yes", ("no", "yes")),
        ("HER2-+HER2+", ("HER2-", "HER2+")),
        ("HER2++HER2-", ("HER2+", "HER2-")),
        ("0+1++2++3+", ("0", "1+", "2+", "3+")),
        ("+ve+-ve", ("+ve", "-ve")),
        ("HER2+", ("HER2+",)),
        ("+", ("+",)),
    ],
)
def test_plus_signs_at_the_end_of_a_name_belong_to_it(text: str, names: tuple[str, ...]) -> None:
    assert split_at_plus(text) == names


@pytest.mark.parametrize(
    ("parts", "known", "names"),
    [
        (("ER", "/PR+", "no"), {"ER+/PR+", "no"}, ("ER+/PR+", "no")),
        (("a", "b", "c"), {"a,b", "c"}, ("a,b", "c")),
        (("a", "b"), {"a", "b", "a+b"}, ("a", "b")),
        (("a", "b", "a"), {"a+b", "a"}, ("a+b", "a")),
        (("a", "x"), {"a", "b"}, ("a", "x")),
        ((), {"a"}, ()),
    ],
)
def test_parts_are_joined_where_that_gives_a_name(
    parts: tuple[str, ...], known: set[str], names: tuple[str, ...]
) -> None:
    assert rejoined(parts, known) == names


@pytest.mark.parametrize(
    ("folders", "asked", "classes"),
    [
        (("HER2-", "HER2+"), "classes=HER2++HER2-", ("HER2+", "HER2-")),
        (("HER2-", "HER2+"), "lesion=HER2+", ("no lesion", "lesion")),
        (("0", "1+", "2+", "3+"), "lesion=2++3+", ("no lesion", "lesion")),
        (("ER+/PR+".replace("/", " "), "no"), "classes=no+ER+ PR+", ("no", "ER+ PR+")),
        (("a, b", "c"), "classes=[c,a, b]", ("c", "a, b")),
    ],
)
def test_classes_of_folders(
    tmp_path: Path, class_folders: Callable[..., Path], folders: tuple[str, ...], asked: str, classes: tuple[str, ...]
) -> None:
    root = class_folders(tmp_path / "d", dict.fromkeys(folders, 6))
    data = rbmed.load_dataset(f"imagefolder:size=32,{asked}", data_root=root)
    assert data.card().classes == classes
    if "lesion" in classes:
        merged = sum(int((data.split(name).labels == 1).sum()) for name in ("train", "calibration", "test"))
        assert merged == 6 * len(split_at_plus(asked.removeprefix("lesion=")))


def test_a_class_that_is_not_there_is_named(tmp_path: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders(tmp_path / "d", {"HER2-": 6, "HER2+": 6})
    with pytest.raises(DataError, match=r"no class 'HER3\+' in .*; there are: HER2"):
        rbmed.load_dataset("imagefolder:size=32,classes=HER2-+HER3+", data_root=root).card()


def test_columns_of_a_table(tmp_path: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders(tmp_path / "d", {"x": 12})
    rows = ["image,ER+,HER2+"]
    rows += [f"{path.relative_to(root)},{at % 2},{1 - at % 2}" for at, path in enumerate(sorted(root.rglob("*.png")))]
    (root / "labels.csv").write_text("\n".join(rows))
    for asked, classes in (("label=HER2+", ("0", "1")), ("label=ER++HER2+", ("ER+", "HER2+"))):
        data = rbmed.load_dataset(f"table:size=32,{asked}", data_root=root)
        assert data.card().classes == classes
    every = rbmed.load_dataset("table:size=32,label=ER++HER2+,task=multi-label", data_root=root).card()
    assert every.classes == ("ER+", "HER2+")
