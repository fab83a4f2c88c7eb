"""What the label columns of a `table` may say: several findings, grades, names of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rbmed_datasets.table import Table
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")

SPLITS = ("train", "calibration", "test")


def _columns(tmp_path: Path, images: int = 24) -> Path:
    folder = tmp_path / "xray"
    folder.mkdir()
    for at in range(images):
        noise = np.random.default_rng(at).integers(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{at}.png")
    return folder


def test_several_findings_are_read_from_columns_of_0_and_1(tmp_path: Path) -> None:
    folder = _columns(tmp_path)
    rows = [f"{at}.png,{at % 2},{int(at % 3 == 0)},{at // 2}" for at in range(24)]
    (folder / "x.csv").write_text("image,Mass,Effusion,patient\n" + "\n".join(rows), encoding="utf-8")
    made = Table(Table.Params(label="Mass+Effusion", task="multi-label"), folder)
    card, splits = made.card(), [made.split(name) for name in ("train", "calibration", "test")]
    assert card.task == "multi-label"
    assert card.classes == ("Effusion", "Mass")
    assert sum(len(split) for split in splits) == 24
    for split in splits:
        assert split.labels.dtype == torch.int64
        assert split.labels.shape[1] == 2
        assert split.labels.any(0).all()  # each finding is in each split
    assert sum(int(split.labels[:, 1].sum()) for split in splits) == 12


def test_several_findings_are_read_from_one_column(tmp_path: Path) -> None:
    folder = _columns(tmp_path, 12)
    lists = ["Mass|Effusion", "No Finding", "Effusion", "Effusion|Mass"] * 3
    rows = [f"{at}.png,{label},{at}" for at, label in enumerate(lists)]
    (folder / "x.csv").write_text("Image Index,Finding Labels,Patient ID\n" + "\n".join(rows), encoding="utf-8")
    made = Table(Table.Params(task="multi-label"), folder)
    assert made.card().classes == ("Effusion", "Mass")
    held = torch.cat([made.split(name).labels for name in ("train", "calibration", "test")])
    assert sorted(map(tuple, held.tolist())) == [(0, 0)] * 3 + [(1, 0)] * 3 + [(1, 1)] * 6
    one = Table(Table.Params(task="multi-label", classes=("Mass",)), folder)
    assert one.card().classes == ("Mass",)
    assert one.split("train").labels.shape[1] == 1


def test_a_column_that_is_neither_0_nor_1_is_named(tmp_path: Path) -> None:
    folder = _columns(tmp_path, 6)
    rows = [f"{at}.png,{at % 2},{'-1' if at == 4 else '0'}" for at in range(6)]
    (folder / "x.csv").write_text("image,Mass,Edema\n" + "\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"x.csv, line 6 says '-1' in column 'Edema', where 0 or 1 tells"):
        Table(Table.Params(label="Mass+Edema", task="multi-label"), folder).card()


def test_grades_have_an_order(tmp_path: Path) -> None:
    folder = _columns(tmp_path, 15)
    rows = [f"{at}.png,{at % 3},{('mild', 'none', 'severe')[at % 3]}" for at in range(15)]
    (folder / "x.csv").write_text("image,level,grade\n" + "\n".join(rows), encoding="utf-8")
    made = Table(Table.Params(task="ordinal", label="level"), folder)
    assert (made.card().task, made.card().classes) == ("ordinal", ("0", "1", "2"))
    with pytest.raises(DataError, match=r"order of the grades: classes=LOWEST\+...\+HIGHEST, of mild, none, severe"):
        Table(Table.Params(task="ordinal", label="grade"), folder).card()
    order = ("none", "mild", "severe")
    assert Table(Table.Params(task="ordinal", label="grade", classes=order), folder).card().classes == order


def test_parameters_that_came_later_leave_the_digest_as_it_was(tmp_path: Path) -> None:
    folder = _columns(tmp_path, 12)
    rows = [f"{at}.png,{'ab'[at % 2]}" for at in range(12)]
    (folder / "x.csv").write_text("image,label\n" + "\n".join(rows), encoding="utf-8")
    plain = Table(Table.Params(), folder).card()
    assert Table(Table.Params(separator=";"), folder).card().digest != plain.digest
    assert plain.task == "multi-class"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b", "NaN"], r"line 4 has the label 'NaN', as tools write a missing value"),
        (["0", "1", "1.0"], r"classes '1' \(line \d+\) and .1.0. \(line \d+\) differ only in how they are written"),
        (["tum\u00f6r", "normal", "tumo\u0308r"], "differ only in how they are written"),
        (["Left Lung", "right", "left-lung"], "differ only in how they are written"),
    ],
)
def test_labels_that_are_one_class_or_none(tmp_path: Path, labels: list[str], message: str) -> None:
    folder = _columns(tmp_path, 12)
    rows = [f"{at}.png,{labels[at % 3]}" for at in range(12)]
    (folder / "x.csv").write_text("image,label\n" + "\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        Table(Table.Params(), folder).card()


def test_numbers_that_differ_are_classes(tmp_path: Path) -> None:
    folder = _columns(tmp_path, 12)
    rows = [f"{at}.png,{('1.0', '10.0', '2')[at % 3]}" for at in range(12)]
    (folder / "x.csv").write_text("image,label\n" + "\n".join(rows), encoding="utf-8")
    assert Table(Table.Params(), folder).card().classes == ("1.0", "2", "10.0")


def test_windows_paths_rows_given_twice_semicolons_and_bom(tmp_path: Path) -> None:
    folder = _columns(tmp_path, 12)
    (folder / "scans").mkdir()
    for at in range(12):
        (folder / f"{at}.png").rename(folder / "scans" / f"{at}.png")
    rows = [f'"scans\\{at}.png";{"ab"[at % 2]}' for at in [*range(12), 3, 3]]
    (folder / "x.csv").write_bytes(b"\xef\xbb\xbf" + ("image;label\r\n" + "\r\n".join(rows)).encode())
    data = Table(Table.Params(), folder)
    assert sum(len(data.split(name)) for name in SPLITS) == 12
    away = [f"C:\\data\\{at}.png,{'ab'[at % 2]}" for at in range(12)]
    (folder / "x.csv").write_text("image,label\n" + "\n".join(away), encoding="utf-8")
    with pytest.raises(DataError, match=r"12 images that table .* names are missing: C:"):
        Table(Table.Params(), folder).card()


@pytest.mark.parametrize("task", ["multi-class", "ordinal", "multi-label"])
def test_ids_and_measurements_are_no_labels(tmp_path: Path, task: str) -> None:
    folder = _columns(tmp_path, 12)
    rows = [f"{at}.png,{20 + at},{at % 2}" for at in range(12)]
    (folder / "x.csv").write_text("image,age,label\n" + "\n".join(rows), encoding="utf-8")
    made = Table(Table.Params(label="age", task=task), folder)
    message = r"column 'age' of table .* says 12 different things of 12 images, 12 of them of one image only \('20', "
    with pytest.raises(DataError, match=message) as caught:
        made.card()
    with pytest.raises(DataError) as checked:
        made.check()
    assert str(checked.value) == str(caught.value)
    assert Table(Table.Params(label="age", classes=("20", "21")), folder).class_names == ("20", "21"), "asked for"
    assert Table(Table.Params(), folder).card().classes == ("0", "1")


@pytest.mark.parametrize("point", [".", ","])
def test_measurements_that_repeat_are_no_classes_unless_they_are_named(tmp_path: Path, point: str) -> None:
    folder = _columns(tmp_path, 24)
    values = [("4.0", "4.5", "5.0")[at % 3].replace(".", point) for at in range(24)]
    rows = [f"{at}.png;{value}" for at, value in enumerate(values)]
    (folder / "x.csv").write_text("image;size_mm\n" + "\n".join(rows), encoding="utf-8")
    message = rf"column 'size_mm' of table .* holds numbers that are not whole \(4\{point}5, \.\.\.\), 3 different ones"
    with pytest.raises(DataError, match=message):
        Table(Table.Params(label="size_mm"), folder).card()
    named = Table.Params(label="size_mm", classes=tuple(dict.fromkeys(values)))
    assert len(Table(named, folder).card().classes) == 3
    assert len(Table(Table.Params(label="size_mm", task="ordinal"), folder).card().classes) == 3


def test_whole_numbers_with_a_point_are_classes(tmp_path: Path) -> None:
    folder = _columns(tmp_path, 24)
    rows = [f"{at}.png,{at % 2}.0" for at in range(24)]
    (folder / "x.csv").write_text("image,label\n" + "\n".join(rows), encoding="utf-8")
    assert Table(Table.Params(), folder).card().classes == ("0.0", "1.0")


def _refused(tmp_path: Path, header: str, rows: list[str], message: str, **params: object) -> None:
    """Rows are repeated; ``{at}`` in one is the number of its image."""
    folder = _columns(tmp_path)
    text = [rows[at % len(rows)].format(at=at) for at in range(24)]
    (folder / "x.csv").write_text(header + "\n" + "\n".join(text), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        Table(Table.Params(**params), folder).card()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["NA", "nan", "<NA>", "NULL"])
@pytest.mark.parametrize("what", ["patient", "site"])
def test_missing_patients_and_sites_are_not_one(tmp_path: Path, what: str, value: str) -> None:
    rows = ["{at}.png,a,x{at}", "{at}.png,b," + value]
    message = f"line 3: column '{what}' \\({what}\\) says '{value}', as tools write a missing value"
    _refused(tmp_path, f"image,label,{what}", rows, message)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{at}.png,Mass", "{at}.png,NA"], "line 3 has the label 'NA', as tools write a missing value"),
        (["{at}.png,Mass", "{at}.png,Mass|nan"], "line 3 has the label 'nan', as tools write a missing value"),
        (["{at}.png,Mass", "{at}.png,No Finding|Mass"], "line 3 says 'No Finding|Mass': findings, and that there are"),
        (["{at}.png,Mass", "{at}.png,Mass;Edema"], "holds 'Mass;Edema', which lists several labels .*: separator=;"),
    ],
)
def test_findings_that_are_none(tmp_path: Path, rows: list[str], message: str) -> None:
    _refused(tmp_path, "image,label", rows, message.replace("|", "\\|"), task="multi-label")


def test_a_list_of_classes_is_no_class(tmp_path: Path) -> None:
    rows = ["{at}.png;Mass", "{at}.png;Edema", "{at}.png;Edema,Mass"]
    _refused(tmp_path, "image;label", rows, "holds 'Edema,Mass', which lists several labels .*lesion=NAME")
    data = Table(Table.Params(classes=("Mass", "Edema,Mass")), tmp_path / "xray")
    assert data.class_names == ("Mass", "Edema,Mass"), "asked for"


@pytest.mark.parametrize(("value", "said"), [("-1", "'-1'"), ("0.4", "'0.4'"), ("", "nothing"), ("NA", "'NA'")])
def test_columns_of_classes_say_0_or_1(tmp_path: Path, value: str, said: str) -> None:
    rows = ["{at}.png,0,1", "{at}.png,1," + value]
    _refused(tmp_path, "image,A,B", rows, f"line 3 says {said} in column 'B', where 0 or 1 tells", label="A+B")


def test_classes_that_are_named_twice_or_merged_and_not_used_are_refused(tmp_path: Path) -> None:
    rows = ["{at}.png,a", "{at}.png,b", "{at}.png,c"]
    _refused(tmp_path, "image,label", rows, r"classes=a\+b\+a names 'a' twice", classes=("a", "b", "a"))
    with pytest.raises(DataError, match=r"lesion=c merges none of classes=a\+b"):
        Table(Table.Params(classes=("a", "b"), lesion=("c",)), tmp_path / "xray").card()
