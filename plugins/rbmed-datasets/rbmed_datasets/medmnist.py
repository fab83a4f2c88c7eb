"""`medmnist`: the ``.npz`` files of MedMNIST v2 and MedMNIST+, in their official splits.

Classes, task types and MD5 of the official files are in ``medmnist.json``, taken from the package medmnist 3.0.2
(Zenodo record 10519652).
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import urllib.request
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import robustbench_med as rbmed
from rbmed_datasets import files, medmnist_arrays
from rbmed_datasets.first_look import is_medmnist, medmnist_files
from rbmed_datasets.folder import FolderDataset, PictureParams
from rbmed_datasets.intensity import Survey, fixed, scaled
from rbmed_datasets.pixels import Pixels
from rbmed_datasets.scans import Scans
from robustbench_med.errors import DataError

_URL = "https://zenodo.org/records/10519652/files/"
#: The class with the finding, where a set of two classes has one.
_FINDINGS = ("pneumonia", "malignant", "hyperplasia", "aneurysm")
_NAME = re.compile(r"(?P<set>.+?)(?:_(?P<side>64|128|224))?", re.IGNORECASE)
_SECONDS = 60


class MedMnistParams(PictureParams):
    """Parameters of `MedMnist`."""

    file: str = rbmed.Field("", description="The file in the data root (breastmnist_64.npz). Empty: the only one.")
    slices: int = rbmed.Field(1, ge=0, description="Of a volume, at most so many slices, evenly spaced; 0: all.")
    md5: str = rbmed.Field(
        "", pattern="^([0-9a-fA-F]{32})?$", description="MD5 of the file. Empty: the official one, where it is known."
    )
    download: bool = rbmed.Field(False, description="Fetch 'file' into the data root if it is missing.")
    url: str = rbmed.Field(_URL, pattern="^https?://.+", description="Address of the folder that it is fetched from.")


class MedMnist(FolderDataset):
    """A set of MedMNIST; of 3-D sets slices. ChestMNIST is multi-label, RetinaMNIST ordinal, the others have classes.

    Files have no patient ids: every image, or volume, counts as a patient.

    Raises:
        DataError: no such file, another MD5 than expected, no MedMNIST file.
    """

    Params: ClassVar[type[MedMnistParams]] = MedMnistParams
    name = "medmnist"
    revision = 1
    outside = ("md5", "download", "url")
    licence = "CC BY 4.0 (dermamnist: CC BY-NC 4.0)"
    citation = (
        "Yang et al. 2023, MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image "
        "classification, Scientific Data 10:41"
    )

    @cached_property
    def _path(self) -> Path:
        """The file."""
        if self.root is not None and self.root.is_file():
            return self.root
        root = self.folder
        if self.params.file:
            if Path(self.params.file).name != self.params.file or not self.params.file.endswith(".npz"):
                raise DataError(f"file={self.params.file} is no name of a .npz file in {root}")
            path: Path = root / self.params.file
            if not path.is_file() and self.params.download:
                self._fetch(path)
            if not path.is_file():
                raise DataError(f"there is no file {path}; download=true fetches it")
            return path
        if self.params.download:
            raise DataError("download=true needs file=NAME.npz, such as breastmnist_64.npz")
        found = medmnist_files(root)
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"{root} holds {len(found)} files of MedMNIST ({names}); choose one with file=NAME.npz")
        return found[0]

    @property
    def _known(self) -> dict[str, Any]:
        """What is known of the set by the name of its file; empty for others."""
        return _official(self._path)[0]

    def _expected(self, path: Path) -> str:
        """The MD5 that the file must have; empty where none is known."""
        known, side = _official(path)
        return (self.params.md5 or str(known.get("md5", {}).get(side, ""))).lower()

    def _fetch(self, path: Path) -> None:
        """Download ``path``; nothing is left where it fails or has another MD5."""
        address, expected = self.params.url.rstrip("/") + f"/{path.name}", self._expected(path)
        if not expected:
            raise DataError(f"{path.name} is no official file of MedMNIST; give its digest, md5=, to download it")
        part: IO[bytes] | None = None
        try:
            with (
                urllib.request.urlopen(address, timeout=_SECONDS) as answer,
                tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part,
                self.progress.task(f"downloading {path.name}", int(answer.headers.get("Content-Length") or 0)) as task,
            ):
                while block := answer.read(1 << 20):
                    part.write(block)
                    task.advance(len(block))
            self._verify(Path(part.name), expected, f"what {address} sent")
            Path(part.name).replace(path)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot download {address}: {error}") from error
        finally:
            if part is not None:
                Path(part.name).unlink(missing_ok=True)

    def _verify(self, path: Path, expected: str, what: str) -> str:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if expected and found != expected:
            whose = "given" if self.params.md5 else "official"
            raise DataError(f"{what} has the MD5 {found}, not the {whose} {expected}; it is damaged or another edition")
        return found

    def _md5_note(self, path: Path) -> str:
        """What the MD5 of the file says: one that was given must be met, another than the official one is noted."""
        md5 = self._verify(path, "", f"file {path}")
        if self.params.md5 or md5 == (official := self._expected(path)):
            return f"MD5 {md5}, verified"
        if official:
            return f"MD5 {md5} is not the official {official}: another edition of {path.name}, or a changed file"
        return f"MD5 {md5}, not verified: no digest is known of this file; md5= verifies it"

    def base(self) -> Path:
        """The folder of the file."""
        return self._path.parent

    def files(self) -> list[Path]:
        """The file, which has the MD5 that was given: also where its images were kept by an earlier run."""
        if self.params.md5:
            self._verify(self._path, self.params.md5.lower(), f"file {self._path}")
        return [self._path]

    def scans(self) -> Scans:
        """Read the three parts, made square."""
        path = self._path
        notes = [self._md5_note(path), "no patient ids: each image, or volume, counts as a patient"]
        made, labels, ids, parts, shapes, widths = [], [], [], [], set(), set()
        survey, blank = Survey(self.params.window), True
        if not is_medmnist(path):
            raise DataError(f"file {path} is no file of MedMNIST (.npz with train_images, train_labels, ...)")
        with np.load(path, allow_pickle=False) as stored:
            for part, split in medmnist_arrays.PARTS.items():
                images, answers = medmnist_arrays.read(stored, path, part)
                shapes.add(images.shape[1:])
                widths.add(answers.shape[1:])
                for at, image in enumerate(images):
                    for each in self._of(image):
                        survey.add(Pixels(each))
                        blank = blank and each.min() == each.max()
                        made.append(self._square(each))
                        labels.append(answers[at])
                        ids.append(f"{part}/{at}")
                        parts.append(split)
        if len(shapes) > 1:
            raise DataError(f"file {path} has images of several shapes: {sorted(map(str, shapes))}")
        if len(widths) > 1:
            raise DataError(f"file {path} has another number of labels for each image in train, val and test")
        (shape,) = shapes
        if len(shape) == 3 and shape[-1] != 3:
            notes.append(
                f"volumes of {' x '.join(map(str, shape))}: "
                f"{rbmed.plural(self.params.slices or shape[0], 'slice')} of each"
            )
        elif len(shape) == 3 and self.params.channels == 1:
            notes.append(f"images are {rbmed.COLOUR_LOST}")
        if blank:
            raise DataError(f"every image of {path} is blank (one value in all pixels)")
        notes += survey.on_darkness()
        stacked = np.stack(labels)
        if not self._known and medmnist_arrays.is_one_hot(stacked):
            stacked = stacked.argmax(1)
            notes.append("labels have exactly one 1 in each row (one-hot), so they are classes, not several findings")
        several = stacked.ndim == 2
        return Scans(
            classes=self._classes(path, stacked.shape[1] - 1 if several else int(stacked.max()), several),
            images=np.stack(made),
            labels=stacked,
            patients=tuple(ids),
            sites=("all",) * len(ids),
            notes=tuple(notes),
            official=np.array(parts),
            patients_known=False,
            task="multi-label" if several else "ordinal" if "ordinal" in self._known.get("task", "") else "multi-class",
        )

    def _classes(self, path: Path, largest: int, several: bool) -> tuple[str, ...]:
        names = tuple(self._known.get("classes", ())) or tuple(str(label) for label in range(largest + 1))
        if largest >= len(names):
            raise DataError(f"file {path} has the label {largest}; {path.stem} has the classes 0 to {len(names) - 1}")
        if several and largest + 1 != len(names):
            raise DataError(f"file {path} has {rbmed.plural(largest + 1, 'finding')}; {path.stem} has {len(names)}")
        if len(names) < 2:
            raise DataError(f"a data set needs two classes or more; {path} has one")
        return names

    def _of(self, image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The images of an entry: itself, or slices of a volume."""
        if image.ndim == 2 or image.shape[-1] == 3:
            return [image]
        count = self.params.slices or len(image)
        return [image[int((at + 0.5) * len(image) / count)] for at in range(min(count, len(image)))]

    def _square(self, values: NDArray[np.uint8]) -> NDArray[Any]:
        image = Image.fromarray(values)
        image = files.gray(image) if self.params.channels == 1 else files.colour(image)
        found = np.asarray(image)
        if self.params.window == "file":
            return files.square(found, self.params.size, self.params.fit)
        limits = fixed(self.params.window)
        if limits is None:
            raise DataError("files of MedMNIST have 8 bits; window is file or CENTER/WIDTH")
        return files.square(scaled(Pixels(found.astype(np.float32)), limits), self.params.size, self.params.fit)

    def fact(self, path: Path) -> str:
        """Grey images with a channel of their own, and classes as columns of 0 and 1, were once read otherwise."""
        return medmnist_arrays.fact(path, "" if self._known else "classes")

    def lesion_class(self, classes: tuple[str, ...]) -> int | None:
        """The finding, where one of two classes is one."""
        found = [at for at, name in enumerate(classes) if name in _FINDINGS]
        return found[0] if len(classes) == 2 and len(found) == 1 else None

    def check(self) -> list[str]:
        """The MD5, the arrays and the labels.

        Raises:
            DataError: there is no such file.
        """
        _ = self._path  # a folder without one holds something else, and no problem of this data set
        try:
            return [f"note: {line}" for line in self.scans().notes]
        except DataError as error:
            return [str(error)]


def _official(path: Path) -> tuple[dict[str, Any], str]:
    """What is known of a set by the name of its file, empty for others; and the side of its images."""
    text = resources.files("rbmed_datasets").joinpath("medmnist.json").read_text(encoding="utf-8")
    match = _NAME.fullmatch(path.stem)
    return (json.loads(text).get(match["set"].lower(), {}), match["side"] or "28") if match else ({}, "")
