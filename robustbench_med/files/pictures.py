"""Names of files of pictures."""

from __future__ import annotations

from pathlib import Path

from robustbench_med.errors import BadParameter
from robustbench_med.files.atomic import check_file

FORMATS = (".png", ".svg")


def check_picture(path: Path) -> None:
    """Check the path of a chart before anything is computed.

    Raises:
        BadParameter: the file ends in neither ``.png`` nor ``.svg``, or its folder is missing or cannot be written to.
        StoreError: the disk is full.
    """
    if path.suffix.lower() not in FORMATS:
        raise BadParameter(f"--out {path}: a picture is written as FILE{' or FILE'.join(FORMATS)}")
    if not path.parent.is_dir():
        raise BadParameter(f"--out {path}: there is no folder {path.parent}")
    check_file(path)
