"""Folders on this machine: the cache, and the data roots that the user registered."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from robustbench_med.errors import BadConfig, DataError
from robustbench_med.files.atomic import write_text

#: How names of archives end.
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


def home() -> Path:
    """Folder of downloads, generated data and trained weights: ``RBMED_HOME``, or the platform's cache folder."""
    if chosen := os.environ.get("RBMED_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "robustbench-med"


def registered_roots() -> dict[str, Path]:
    """The registered data roots by data set.

    Raises:
        BadConfig: the file cannot be read.
    """
    file = _roots_file()
    try:
        roots = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadConfig(f"cannot read the registered data roots in {file}: {error}") from error
    if not all(isinstance(path, str) for path in roots.values()):
        raise BadConfig(f'cannot read the registered data roots in {file}: every line must be name = "folder"')
    return {name: Path(path) for name, path in roots.items()}


def register_root(name: str, path: str | Path, files: Sequence[str] = ()) -> Path:
    """Store the folder of a data set, or the file if it has one of the suffixes ``files``; return its absolute path.

    Raises:
        DataError: there is no such folder or file.
    """
    folder = _folder(Path(path), "the folder to register", files)
    roots = {**registered_roots(), name: folder}
    # A JSON string without escapes beyond ASCII control characters is a TOML basic string.
    lines = [
        f"{json.dumps(key)} = {json.dumps(str(root), ensure_ascii=False)}\n" for key, root in sorted(roots.items())
    ]
    write_text(_roots_file(), "".join(lines))
    return folder


def data_root(name: str, explicit: str | Path | None = None, files: Sequence[str] = ()) -> Path:
    """The folder of the user's images for the data set ``name``, or a file with one of the suffixes ``files``.

    The first of these that is given is used: ``explicit`` (``--data-root``), the environment variable ``RBMED_DATA``,
    the registered folder. The first two may be the data set's folder or a parent that holds a folder called ``name``.

    Raises:
        DataError: none is given, or the one given is not a folder.
    """
    name = name.rpartition("/")[2]
    if explicit is not None:
        return _inside(_folder(Path(explicit), "--data-root", files), name)
    if variable := os.environ.get("RBMED_DATA"):
        return _inside(_folder(Path(variable), "RBMED_DATA", files), name)
    if name in (roots := registered_roots()):
        return _folder(roots[name], f"the folder registered for {name!r}", files)
    raise DataError(
        f"data set {name!r} needs its images: give --data-root FOLDER, set RBMED_DATA=FOLDER, "
        f"or run 'rbmed data register {name} FOLDER' once"
    )


def _roots_file() -> Path:
    return home() / "data-roots.toml"


def _folder(path: Path, what: str, files: Sequence[str]) -> Path:
    path = path.expanduser().absolute()
    if path.is_dir() or (path.suffix.lower() in files and path.is_file()):
        return path
    or_file = f" or a file {', '.join(files)}" if files else ""
    raise DataError(f"{what} {path} is not a folder{or_file}{unpack(path)}")


def unpack(path: Path) -> str:
    """What to do with a file that was named in place of a folder, as the end of a message: archives are unpacked."""
    archive = path.name.lower().endswith(_ARCHIVES) and path.is_file()
    return "; it is an archive: unpack it, and name the folder" if archive else ""


def _inside(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder
