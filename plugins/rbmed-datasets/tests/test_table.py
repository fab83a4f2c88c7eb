"""`table` on CSV, TSV and Parquet files as collections ship them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rbmed_datasets.imagefolder import ImageFolder
from rbmed_datasets.table import Table
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")

SPLITS = ("train", "calibration", "test")
Draw = Callable[..., np.ndarray]


def make(root: Path, **params: object) -> Table:
    return Table(Table.Params(**{"size": 32, **params}), root)


def everything(data: Table, field: str) -> list[str]:
    return [value for name in SPLITS for value in getattr(data.split(name), field)]


def note(data: Table, text: str) -> str:
    (found,) = [line for line in data.card().notes if text in line]
    return found


@pytest.fixture
def isic(tmp_path: Path, scan: Draw) -> Path:
    """24 images of 12 patients, as in HAM10000: the table names images without their extension, in a subfolder."""
    (tmp_path / "isic" / "images").mkdir(parents=True)
    rows = []
    for at in range(24):
        Image.fromarray(scan(at, lesion=at % 2 == 1)).save(tmp_path / "isic" / "images" / f"ISIC_{at:04}.jpg")
        row = {"lesion_id": f"HAM_{at // 2}", "image_id": f"ISIC_{at:04}", "dx": ("nv", "mel")[at // 2 % 2]}
        rows.append({**row, "dataset": ("vienna", "queensland")[at // 12], "age": at})
    pd.DataFrame(rows).to_csv(tmp_path / "isic" / "metadata.csv", index=False)
    return tmp_path / "isic"


def rewrite(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame], **options: object) -> Path:
    path = root / "metadata.csv"
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False, **options)
    return root


def test_usual_names_of_columns_are_understood(isic: Path) -> None:
    data = make(isic)
    assert data.card().classes == ("mel", "nv")
    assert note(data, "metadata.csv") == "table metadata.csv: 24 rows, path=image_id, label=dx, patient=lesion_id"
    assert set(everything(data, "patients")) == {f"HAM_{number}" for number in range(12)}
    held = [set(data.split(name).patients) for name in SPLITS]
    assert sum(map(len, held)) == 12
    assert data.card().patients_known
    assert note(data, "split by patient").startswith("24 images of 12 patients")
    assert data.check()[-1].startswith("note: table metadata.csv")


def test_columns_are_parameters(isic: Path) -> None:
    data = make(isic, label="dataset", patient="-", site="DX")
    assert data.card().classes == ("queensland", "vienna")
    assert set(everything(data, "sites")) == {"mel", "nv"}
    assert "no patient ids" in " ".join(data.card().notes)
    assert not data.card().patients_known
    with pytest.raises(
        DataError, match=r"has no column 'colour' \(label\); it has: lesion_id, image_id, dx, dataset, age"
    ):
        make(isic, label="colour").card()
    shutil.copy(isic / "metadata.csv", isic / "other.csv")
    with pytest.raises(DataError, match=r"several tables .* metadata\.csv, other\.csv; choose one with file=NAME"):
        make(isic).card()
    assert make(isic, file="other.csv").card().classes == ("mel", "nv")
    assert make(isic / "other.csv").split("test").patients == make(isic, file="other.csv").split("test").patients


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.tsv", lambda table, path: table.to_csv(path, sep="\t", index=False)),
        ("a.csv", lambda table, path: table.to_csv(path, sep=";", index=False, encoding="utf-8-sig")),
        ("a.parquet", lambda table, path: table.astype({"age": float}).to_parquet(path)),
        ("A.CSV", lambda table, path: table.to_csv(path, index=False, lineterminator="\r\n")),
    ],
)
def test_every_kind_of_table_gives_the_same(isic: Path, name: str, write: Callable[..., None]) -> None:
    wanted = make(isic).split("train")
    table = pd.read_csv(isic / "metadata.csv", dtype=str)
    (isic / "metadata.csv").unlink()
    write(table, isic / name)
    found = make(isic).split("train")
    assert torch.equal(found.images, wanted.images)
    assert (found.patients, found.sites) == (wanted.patients, wanted.sites)


def test_a_split_column_is_kept_and_a_patient_in_two_parts_refused(isic: Path) -> None:
    parts = [("Train", "Validation", "TEST")[min(at // 8, 2)] for at in range(24)]
    data = make(rewrite(isic, lambda table: table.assign(split=parts)))
    assert [len(data.split(name)) for name in SPLITS] == [8, 8, 8]
    assert "official split is kept" in note(data, "official")
    rewrite(isic, lambda table: table.assign(split=[*parts[:7], "test", *parts[8:]]))
    with pytest.raises(DataError, match=r"patient 'HAM_3' is in .* split=-"):
        make(isic).card()
    assert make(isic, split="-").split("train").labels.bincount().min() > 0
    rewrite(isic, lambda table: table.assign(split=[str(at % 5) for at in range(24)]))
    assert "split=" not in note(make(isic), "metadata.csv")  # the number of a fold
    with pytest.raises(DataError, match=r"line 2: '0' in column 'split' is no split"):
        make(isic, split="split").card()


def test_masks_have_a_column(isic: Path, scan: Draw) -> None:
    (isic / "masks").mkdir()
    for at in range(1, 24, 2):
        Image.fromarray(((scan(at, True) == 240) * 255).astype(np.uint8)).save(isic / "masks" / f"m{at}.png")
    masks = ["" if at % 2 == 0 else f"masks/m{at}.png" for at in range(24)]
    test = make(rewrite(isic, lambda table: table.assign(mask=masks))).split("test")
    assert test.masks is not None
    assert test.masks.any()
    assert test.images[test.masks].mean() > 0.8


def test_columns_of_ones_and_zeros_are_labels(isic: Path) -> None:
    one_hot = lambda table: table.assign(  # noqa: E731
        MEL=(table.dx == "mel").astype(float), NV=(table.dx == "nv").astype(int)
    ).drop(columns="dx")
    assert make(rewrite(isic, one_hot), label="MEL+NV").card().classes == ("MEL", "NV")
    rewrite(isic, lambda table: table.assign(NV="1"))
    with pytest.raises(DataError, match=r"has 2 of the labels MEL\+NV"):
        make(isic, label="MEL+NV").card()


def test_several_labels_in_a_cell_are_merged_or_refused(isic: Path) -> None:
    rewrite(isic, lambda table: table.assign(dx=["No Finding", "Mass|Effusion", "Effusion"] * 8))
    with pytest.raises(DataError, match=r"several labels to an image \(Mass\|Effusion\); merge them with lesion="):
        make(isic).card()
    merged = make(isic, lesion="Mass+Effusion", patient="-")
    assert merged.card().classes == ("no lesion", "lesion")
    assert int(sum(merged.split(name).labels.sum() for name in SPLITS)) == 16


def test_missing_files_are_all_named_before_anything_is_read(isic: Path) -> None:
    for at in (3, 5):
        (isic / "images" / f"ISIC_{at:04}.jpg").unlink()
    with pytest.raises(DataError, match=r"2 images that table .* missing: ISIC_0003 \(line 5\), ISIC_0005 \(line 7\)"):
        make(isic).card()
    lines = make(isic).check()
    assert [line.split()[1] for line in lines] == ["ISIC_0003", "ISIC_0005"]


def test_paths_stay_inside_unless_they_are_absolute(isic: Path, tmp_path: Path, scan: Draw) -> None:
    Image.fromarray(scan(99)).save(tmp_path / "outside.png")
    names = lambda first: lambda table: table.assign(image_id=[first, *table.image_id[1:]])  # noqa: E731
    rewrite(isic, names("../outside.png"))
    with pytest.raises(DataError, match=r"line 2: '\.\./outside\.png' leads out of"):
        make(isic).card()
    data = make(rewrite(isic, names(str(tmp_path / "outside.png"))), patient="-")
    assert "1 image is named by absolute paths outside" in note(data, "absolute")
    assert "elsewhere/outside.png" in everything(data, "patients")
    assert str(tmp_path) not in " ".join((*everything(data, "patients"), *data.card().notes))


def test_a_name_of_two_images_and_two_rows_of_one_image_are_refused(isic: Path) -> None:
    shutil.copytree(isic / "images", isic / "more")
    with pytest.raises(DataError, match="'ISIC_0000' is the name of several images"):
        make(isic).card()
    shutil.rmtree(isic / "more")
    rewrite(isic, lambda table: pd.concat([table, table[:1]]))
    assert sum(len(make(isic).split(name)) for name in SPLITS) == 24  # the same row twice
    rewrite(isic, lambda table: pd.concat([table, table[:1].assign(dx="mel")]))
    with pytest.raises(DataError, match=r"says otherwise of ISIC_0000\.jpg than line 2"):
        make(isic).card()


def test_rows_without_a_label_are_counted_and_without_a_patient_refused(isic: Path) -> None:
    rewrite(isic, lambda table: table.assign(dx=["", *table.dx[1:]]))
    assert note(make(isic), "without a label") == "1 row without a label is left out"
    rewrite(isic, lambda table: table.assign(lesion_id=["HAM", "", *table.lesion_id[2:]]))
    with pytest.raises(DataError, match=r"line 3: column 'lesion_id' \(patient\) is empty"):
        make(isic).card()


def test_classes_that_differ_in_case_are_refused(isic: Path) -> None:
    rewrite(isic, lambda table: table.assign(dx=["MEL", *table.dx[1:]]))
    with pytest.raises(DataError, match=r"classes 'MEL' \(line 2\) and 'mel' \(line"):
        make(isic).card()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "has no rows"),
        (b"image_id,dx\n", "has no rows"),
        (b"dx,age\n1,2\n", "no column for the path"),
        (b"image_id,age\n1,2\n", "no column for the label"),
        (b"image_id,dx,dx\nISIC_0000,1,2\n", "two columns 'dx'"),
        ("image_id,dx\na,b\n".encode("utf-16"), "UTF-16"),
        (b'image_id,dx\n"a,b\n', "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(isic: Path, text: bytes, words: str) -> None:
    (isic / "metadata.csv").write_bytes(text)
    with pytest.raises(DataError, match=words) as error:
        make(isic).card()
    assert "\n" not in str(error.value)


def test_a_folder_without_a_table_and_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table \(\.csv, \.tsv, \.parquet\)"):
        make(tmp_path).card()
    with pytest.raises(DataError, match="there is no table"):
        make(tmp_path, file="gone.csv").card()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_in_latin1_in_table_and_folder(isic: Path) -> None:
    for path in list((isic / "images").iterdir()):
        path.rename(path.with_name(os.fsdecode(b"sch\xe4del_") + path.name))
    text = (isic / "metadata.csv").read_bytes().replace(b",ISIC", b",sch\xe4del_ISIC").replace(b"HAM", b"H\xc4M")
    (isic / "metadata.csv").write_bytes(text)
    patients = set(everything(make(isic), "patients"))
    assert r"H\xc4M_0" in patients
    assert all(name.encode() for name in patients)


def test_sites_of_a_patient_and_splits(isic: Path) -> None:
    data = make(rewrite(isic, lambda table: table.assign(hospital=["A", "B"] * 12)))
    held = [set(data.split(name).patients) for name in SPLITS]
    assert sum(map(len, held)) == len(set.union(*held)) == 12  # each patient is at both sites, in one split
    assert set(data.split("train").sites) == {"A", "B"}


def test_digest_follows_the_table(isic: Path) -> None:
    digest = make(isic).card().digest
    assert make(isic).card().digest == digest
    assert make(rewrite(isic, lambda table: table.assign(lesion_id=table.image_id))).card().digest != digest


def test_patients_of_class_folders_may_stand_in_a_table(tmp_path: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders(tmp_path, {"yes": 12, "no": 12})
    rows = [f"{name}/{name}{at}.png,P{at // 3}" for name in ("yes", "no") for at in range(12)]
    (root / "ids.csv").write_text("\n".join(["file,patient", *rows]))
    data = ImageFolder(ImageFolder.Params(size=32, ids="ids.csv"), root)
    assert {who for name in SPLITS for who in data.split(name).patients} == {"P0", "P1", "P2", "P3"}
    (root / "ids.csv").write_text("\n".join(["file,patient", *rows[1:]]))
    with pytest.raises(DataError, match=r"names no patient for 1 file, yes/yes0\.png"):
        ImageFolder(ImageFolder.Params(size=32, ids="ids.csv"), root).card()
    (root / "ids.csv").write_text("\n".join(["file,patient", "yes/yes0.png,NA", *rows[1:]]))
    with pytest.raises(DataError, match=r"names no patient for 1 file, yes/yes0\.png"):
        ImageFolder(ImageFolder.Params(size=32, ids="ids.csv"), root).card()
    (root / "ids.csv").write_text("\n".join(["file,patient", *rows, "yes/yes0.png,P9"]))
    with pytest.raises(DataError, match=r"several patients for yes/yes0\.png: P0, P9"):
        ImageFolder(ImageFolder.Params(size=32, ids="ids.csv"), root).card()


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("sep=;\r\nimage;label", ";"),
        ('"image";"label";"text, free"', ";"),
        ("image,label,,", ","),
        ("image\tlabel", "\t"),
    ],
)
def test_headers_as_spreadsheets_write_them(tmp_path: Path, scan: Draw, header: str, separator: str) -> None:
    lines = []
    for at in range(12):
        Image.fromarray(scan(at, lesion=at % 2 == 1)).save(tmp_path / f"{at}.png")
        lines.append(separator.join([f"{at}.png", ("no", "yes")[at % 2]] + [""] * (header.count(separator) - 1)))
    lines = [line if "sep=" not in header else ";".join(line.split(";")[:2]) for line in lines]
    (tmp_path / "labels.csv").write_text("\n".join([header, *lines]))
    assert sorted(everything(make(tmp_path), "sites")) == ["all"] * 12
    assert make(tmp_path).card().classes == ("no", "yes")


def test_commas_in_a_table_called_tsv(tmp_path: Path, isic: Path) -> None:
    (isic / "metadata.csv").rename(isic / "metadata.tsv")
    assert make(isic).card().classes == ("mel", "nv")


def test_utf16_without_a_mark_is_said(isic: Path) -> None:
    path = isic / "metadata.csv"
    path.write_bytes(path.read_text().encode("utf-16-le"))
    with pytest.raises(DataError, match="written in UTF-16, or is no text; save it as UTF-8"):
        make(isic).card()
