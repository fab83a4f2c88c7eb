"""Names of files of pictures."""

from __future__ import annotations

from pathlib import Path

from robustbench_med.errors import BadParameter

FORMATS = (".png", ".svg")


def check_picture(path: Path) -> None:
    """Check the path of a chart before anything is computed.

    Raises:
        BadParameter: the file ends in neither ``.png`` nor ``.svg``, or its folder is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise BadParameter(f"--out {path}: a picture is written as FILE{' or FILE'.join(FORMATS)}")
    if not path.parent.is_dir():
        raise BadParameter(f"--out {path}: there is no folder {path.parent}")
