"""Finds the files that a table names, as such tables name them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from rbmed_datasets.files import SUFFIXES, is_hidden
from rbmed_datasets.names import printable, some
from robustbench_med.errors import DataError


class Finder:
    """Finds files below the folder of a table or the data root, or at an absolute path.

    Names are taken as they are, without their extension, and anywhere below the data root; then without folders that
    all of them begin with and that are not there (``CheXpert-v1.0-small/``), then in other upper and lower case or with
    the extension of another format. What was done is in `notes`.

    Args:
        folder: of the table.
        root: the data root.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self._prefix: tuple[str, ...] | None = None
        self._otherwise: list[str] = []

    def find(self, name: str, where: str) -> Path | None:
        """The file called ``name``; None if there is none.

        Raises:
            DataError: the name leads out of the folder, or several files have it.
        """
        name = name.replace("\\", "/") if os.sep == "/" else name
        if not name or "\0" in name:
            return None
        path = Path(os.path.normpath(self.folder / name))
        if not Path(name).is_absolute() and not (path.is_relative_to(self.folder) or path.is_relative_to(self.root)):
            raise DataError(f"{where}: {printable(name)!r} leads out of {self.root}; such images need absolute paths")
        if path.is_file():
            return path
        beside = [each for suffix in SUFFIXES for each in (path.with_name(path.name + suffix),) if each.is_file()]
        found = _one(beside, name, where) or _one(self._elsewhere(Path(name)), name, where)
        return found or self._without_prefix(Path(name)) or self._written_otherwise(Path(name))

    def notes(self) -> list[str]:
        """For the data card: which names were not taken as they are."""
        lines = []
        if self._prefix:
            lines.append(f"{printable(Path(*self._prefix))} at the beginning of the names of images is left out")
        if self._otherwise:
            count = len(self._otherwise)
            lines.append(f"{count} names differ from those of the files in case or extension: {some(self._otherwise)}")
        return lines

    def unlisted(self, listed: set[Path]) -> list[Path]:
        """Image files below the data root that are not among ``listed``."""
        return [path for path in self._every if path not in listed]

    @cached_property
    def _every(self) -> list[Path]:
        found = (path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES)
        return sorted(path for path in found if not any(map(is_hidden, path.relative_to(self.root).parts)))

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        made: dict[str, list[Path]] = {}
        for path in self._every:
            for key in {path.name, path.stem}:
                made.setdefault(key, []).append(path)
        return made

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        made: dict[str, list[Path]] = {}
        for path in self._every:
            made.setdefault(path.stem.casefold(), []).append(path)
        return made

    def _elsewhere(self, name: Path) -> Sequence[Path]:
        """Files of the data root whose path ends in ``name``."""
        ends = "".join(f"/{part}" for part in name.parent.parts)
        return [path for path in self._index.get(name.name, ()) if path.parent.as_posix().endswith(ends)]

    def _without_prefix(self, name: Path) -> Path | None:
        """The file without the first folders of its name, the same ones for all names: other ones are other images."""
        parts = name.parts
        taken = range(1, len(parts)) if self._prefix is None else [len(self._prefix)]
        for count in taken:
            for base in (self.folder, self.root):
                path = base.joinpath(*parts[count:])
                if self._prefix in (None, parts[:count]) and path.is_file():
                    self._prefix = parts[:count]
                    return path
        return None

    def _written_otherwise(self, name: Path) -> Path | None:
        ends = "".join(f"/{part}" for part in name.parent.parts).casefold()
        found = self._by_stem.get(name.stem.casefold(), ())
        found = [path for path in found if path.parent.as_posix().casefold().endswith(ends)]
        if len(found) != 1:
            return None
        self._otherwise.append(f"{printable(name)} is {printable(found[0].name)}")
        return found[0]


def _one(found: Sequence[Path], name: str, where: str) -> Path | None:
    if len(found) > 1:
        paths = some([str(path) for path in found])
        raise DataError(f"{where}: {printable(name)!r} is the name of several images: {paths}")
    return found[0] if found else None
