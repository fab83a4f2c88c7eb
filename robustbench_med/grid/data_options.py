"""Parameters of the data set: options of the command line that are some, and folds, of which one stands for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustbench_med.errors import DataError, shortened
from robustbench_med.files.paths import unpack
from robustbench_med.grid.options import Ref, listed
from robustbench_med.plugins.references import PartRef, format_ref, parse

#: Folds of a cross-validation, at most.
MOST_FOLDS = 1000


def of_data(values: dict[str, Any], default: Sequence[Ref]) -> dict[str, Any]:
    """Every data set of the run, each fold of its own, with the options that are its parameters.

    Args:
        values: options of the run.
        default: the data sets where none is named.

    Raises:
        DataError: there is no such folder of test images, or a folder of images without a data set that reads it.
    """
    if values.get("data_root") and not values.get("dataset"):
        raise DataError(
            f"--data-root {shortened(str(values['data_root']))}: no data set is named, and {default[0]}, the default, "
            "brings its images; name the one that reads yours, such as --dataset imagefolder"
        )
    folder, download = values.get("test_folder"), values.get("download") is True
    refs = list(listed(values.get("dataset") or default))
    if not isinstance(folder, str | Path | None) or not all(isinstance(ref, str | dict) for ref in refs):
        return values  # what is wrong with them is said later
    refs = [each for ref in refs for each in each_fold(ref)]
    if not (folder or download):
        return {**values, "dataset": refs}
    made = [with_data_options(ref, folder, download, values.get("data_root")) for ref in refs]
    return {**values, "dataset": made, "test_folder": None, "download": False}


def with_data_options(
    ref: Ref, test_folder: Path | str | None = None, download: bool = False, root: Path | str | None = None
) -> Ref:
    """A reference to a data set with the parameters that these options stand for.

    Args:
        ref: as it was given.
        test_folder: relative paths start at the current folder, and if there is none of that name, at the data root.
        download: fetch the files that are missing.
        root: the data root, if it was given.

    Raises:
        DataError: there is no such folder.
    """
    more: dict[str, Any] = {"download": "true"} if download else {}
    if test_folder is not None:
        more["test_folder"] = _folder(Path(test_folder).expanduser(), root)
    if not more:
        return ref
    if isinstance(ref, str):
        known = parse(ref)
        return format_ref(PartRef(known.name, {**known.params, **more}))
    return {**ref, **more}


def each_fold(ref: Ref) -> list[Ref]:
    """``lgg:folds=5`` as its five folds, ``lgg:folds=5,fold=0`` and so on; a reference to one data set as it is.

    Parameters ``folds`` and ``fold`` mean this for every data set that has them.
    """
    known = parse(ref) if isinstance(ref, str) else PartRef("", ref)
    folds = str(known.params.get("folds", ""))
    if "fold" in known.params or not (folds.isascii() and folds.isdecimal() and 2 <= int(folds[:5]) <= MOST_FOLDS):
        return [ref]
    if isinstance(ref, str):
        return [format_ref(PartRef(known.name, {**known.params, "fold": fold})) for fold in range(int(folds))]
    return [{**ref, "fold": fold} for fold in range(int(folds))]


def _folder(path: Path, root: Path | str | None) -> str:
    """Below the data root its path from there, so that moving both changes nothing; else the whole path."""
    base = Path(root).expanduser().resolve() if root is not None else None
    found = path.resolve()
    if not found.is_dir():
        if path.is_absolute() or base is None or not (base / path).is_dir():
            raise DataError(f"--test-folder {path} is not a folder{unpack(found)}")
        found = (base / path).resolve()
    return found.relative_to(base).as_posix() if base is not None and found.is_relative_to(base) else str(found)
