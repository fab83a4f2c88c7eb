"""Problems of image files, one line each; a line that starts with ``note:`` is harmless."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import robustbench_med as rbmed
from rbmed_datasets import files, pixels
from rbmed_datasets.intensity import Survey
from rbmed_datasets.names import printable, some
from robustbench_med.errors import DataError


def problem(path: Path) -> str | None:
    """One line on a problem of ``path``, or None."""
    try:
        pixels.read(path)
        return files.wrong_extension(path)
    except DataError as error:
        return str(error)


def several_pages(counted: Sequence[tuple[Path, int]], used: str) -> list[str]:
    """A line where files hold several images of which ``used`` ones are read."""
    more = [(path, count) for path, count in counted if count > 1]
    if not more or used == "all":
        return []
    path, count = max(more, key=lambda item: item[1])
    held = (
        f"{rbmed.plural(len(more), 'file holds', 'files hold')} several pages or frames (most: "
        f"{printable(path)} with {count})"
    )
    return [f"{held}; only the {used} one is read; pages=all reads each as an image of one patient"]


class Checked:
    """Every image of a data set decoded: what is wrong with files, their common intensities, and copies.

    Args:
        channels, window: parameters of the data set.

    Attributes:
        lines: problems and notes of single files.
    """

    def __init__(self, channels: int, window: str) -> None:
        self.lines: list[str] = []
        self._channels = channels
        self._survey = Survey(window)
        self._copies: dict[bytes, list[tuple[str, str]]] = {}
        self._folders: dict[str, set[bytes]] = {}
        self._blank: list[str] = []

    def add(self, path: Path, name: str, folder: str, label: str, pages: str = "first") -> bool:
        """Decode ``pages`` of the file ``name`` in the class folder ``folder``; False if it is unreadable."""
        try:
            found = [pixels.read(path, self._channels, page) for page in pixels.chosen(path, pages)]
            other = files.wrong_extension(path)
        except DataError as error:
            self.lines.append(str(error))
            return False
        self.lines += [other] if other else []
        for image in found:
            self.see(image, name, folder, label)
        return True

    def see(self, image: pixels.Pixels, name: str, folder: str, label: str) -> None:
        """Take note of a decoded image."""
        self._survey.add(image)
        if image.values.min() == image.values.max():
            self._blank.append(name)
        key = hashlib.blake2b(f"{image.values.shape}".encode() + image.values.tobytes(), digest_size=16).digest()
        self._copies.setdefault(key, []).append((name, label))
        self._folders.setdefault(folder, set()).add(key)

    def report(self, facts: Sequence[str] = ()) -> list[str]:
        """Every line: of single files, then of all; ``facts`` are further ones about the data set."""
        blank = [f"every image is blank, {self._blank[0]} for example"] if self.all_blank else []
        notes = dict.fromkeys((*facts, *self._notes()))
        return [*self.lines, *blank, *(f"note: {line}" for line in notes)]

    @property
    def all_blank(self) -> bool:
        """Every image has one value in all of its pixels."""
        images = sum(len(same) for same in self._copies.values())
        return 0 < images == len(self._blank)

    def _notes(self) -> list[str]:
        survey = self._survey
        plain = survey.plain or not self._copies
        lines = [*survey.on_colour(), *survey.on_darkness()] if plain else survey.notes()
        if self._blank:
            lines.append(
                f"{rbmed.plural(len(self._blank), 'image is', 'images are')} blank (one value in all "
                f"pixels): {some(self._blank)}"
            )
        copies = [same for same in self._copies.values() if len(same) > 1]
        for same in copies:
            others = [name for name, label in same if label != same[0][1]]
            if others:
                lines.append(f"the same image under different labels: {same[0][0]} = {some(others)}")
        repeated = sum(len(same) - 1 for same in copies)
        if repeated:
            example = " = ".join(name for name, _ in copies[0][:2])
            more = rbmed.plural(repeated, "image is an exact copy of another", "images are exact copies of others")
            lines.append(f"{more} ({example} for example); copies stay together")
        equal: dict[frozenset[bytes], list[str]] = {}
        for folder, keys in self._folders.items():
            equal.setdefault(frozenset(keys), []).append(folder)
        lines += [f"folders hold the same images: {', '.join(alike)}" for alike in equal.values() if len(alike) > 1]
        return lines
