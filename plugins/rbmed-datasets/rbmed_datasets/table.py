"""`table`: a CSV, TSV or Parquet file that names images, labels, patients, sites, splits and masks."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import robustbench_med as rbmed
from rbmed_datasets import tabular
from rbmed_datasets.finder import Finder
from rbmed_datasets.first_look import table_files
from rbmed_datasets.labelling import columns_of, findings_of, label_of, refuse_ids, refuse_lists
from rbmed_datasets.layout import OFFICIAL, refuse_similar
from rbmed_datasets.names import MISSING, printable, some
from rbmed_datasets.picture_params import LabelledParams
from rbmed_datasets.pictures import Picture, PictureSet
from robustbench_med.errors import DataError

_AUTO = "Empty: one of the usual names; '-': none."


class TableParams(LabelledParams):
    """Parameters of `Table`."""

    file: str = rbmed.Field("", description="The table, below the data root. Empty: the only one that names images.")
    path: str = rbmed.Field("", description="Column of the images, relative to the table; without extension if unique.")
    label: str = rbmed.Field("", description="Column of the label, or columns of 0 and 1 joined by '+'.")
    patient: str = rbmed.Field("", description=f"Column of the patient. {_AUTO}")
    site: str = rbmed.Field("", description=f"Column of the site (hospital). {_AUTO}")
    split: str = rbmed.Field("", description=f"Column of an official split, which is then kept. {_AUTO}")
    separator: str = rbmed.Field(
        "|", min_length=1, description="Characters between the findings in one column, where task=multi-label."
    )
    mask: str = rbmed.Field("", description=f"Column of the lesion masks. {_AUTO}")


class Table(PictureSet):
    """Images that a table lists, such as those of HAM10000, NIH ChestX-ray14, ISIC or APTOS.

    Raises:
        DataError: no table, no such column, a missing image, two labels for one image, an unreadable image.
    """

    Params: ClassVar[type[TableParams]] = TableParams
    name = "table"
    revision = 1
    later = ("task", "separator")

    @cached_property
    def _table(self) -> tabular.Rows:
        """The table that was asked for, or the only one with the columns that are needed."""
        root = self.place
        if root.is_file():
            return tabular.read(root)
        if self.params.file:
            path = root / self.params.file
            if not path.is_file():
                raise DataError(f"there is no table {path} (file={self.params.file})")
            return tabular.read(path)
        found, reasons = [], []
        for path in table_files(root):
            try:
                found.append(tabular.read(path))
                self._columns_of(found[-1])
            except DataError as error:
                reasons.append(str(error))
        found = [table for table in found if not any(str(table.path) in reason for reason in reasons)]
        if len(found) > 1:
            names = ", ".join(table.path.name for table in found)
            raise DataError(f"several tables in {root} list images: {names}; choose one with file=NAME")
        if not found:
            raise DataError("; ".join(reasons))
        return found[0]

    @property
    def place(self) -> Path:
        """The root: the folder of the table, or the table itself."""
        return self.root if self.root is not None and self.root.is_file() else self.folder

    @cached_property
    def _columns(self) -> dict[str, str | None]:
        return self._columns_of(self._table)

    def _columns_of(self, table: tabular.Rows) -> dict[str, str | None]:
        """The columns by meaning."""
        found: dict[str, str | None] = {}
        for what in ("path", "label", "patient", "site", "split", "mask"):
            asked = getattr(self.params, what)
            joined = columns_of(asked, table.columns) if what == "label" and asked else ()
            if len(joined) > 1:
                found[what] = "+".join(str(table.column(what, one)) for one in joined)
            else:
                found[what] = table.column(what, asked)
        guessed = None if self.params.split else found["split"]
        self._no_split = ""
        if guessed and not {row[guessed].lower() for row in table.rows} <= set(OFFICIAL):
            found["split"] = None  # the number of a fold, for example
            values = sorted({printable(row[guessed]) for row in table.rows})
            self._no_split = f"column {guessed!r} names no parts of a split ({some(values)}) and is not used"
        for what in ("path", "label"):
            if found[what] is None:
                names = ", ".join(map(printable, table.columns))
                hint = tabular.hint(table, what)
                raise DataError(
                    f"table {table.path} has no column for the {what}: give {what}=COLUMN; it has: {names}{hint}"
                )
        return found

    def base(self) -> Path:
        """The folder of the table."""
        return self._table.path.parent

    def file_name(self, path: Path) -> str:
        """Its path below the folder of the table; of files elsewhere, below the folder that holds them."""
        if path.is_relative_to(self.base()):
            return path.relative_to(self.base()).as_posix()
        return f"elsewhere/{path.relative_to(self._elsewhere).as_posix()}"

    @cached_property
    def _elsewhere(self) -> Path:
        found = [path for picture in self._found for path in (picture.path, *picture.masks)]
        return Path(os.path.commonpath([path.parent for path in found if not path.is_relative_to(self.base())]))

    def files(self) -> list[Path]:
        """The table, the images and the masks."""
        return [self._table.path, *super().files()]

    def keeps_official(self) -> bool:
        """Where the table has a column for it."""
        return self._columns["split"] is not None

    def find(self) -> list[Picture]:
        """The rows that have a label."""
        found, missing = self._rows
        if missing:
            path = self._table.path
            images, are = rbmed.plural(len(missing), "image"), "is" if len(missing) == 1 else "are"
            raise DataError(f"{images} that table {path} names {are} missing: {some(missing)}")
        if not (self.params.classes or self.params.lesion):
            where = f"column {printable(str(self._columns['label']))!r} of table {self._table.path}"
            refuse_ids([picture.label for picture in found], self.params.task, where)
            refuse_lists({picture.label for picture in found}, self.params.task, where)
        return found

    @cached_property
    def _finder(self) -> Finder:
        folder = self._table.path.parent
        return Finder(folder, self.place if self.place.is_dir() else folder)

    @cached_property
    def _rows(self) -> tuple[list[Picture], list[str]]:
        """Pictures, one for each image, and what is missing."""
        table, columns = self._table, self._columns
        path = table.path
        finder = self._finder
        missing: list[str] = []
        named, mask_column = str(columns["path"]), columns["mask"]
        made: dict[Path, tuple[Picture, int]] = {}
        for line, row in zip(table.lines, table.rows, strict=True):
            where = f"table {path}, line {line}"
            label = self._label_of(row, where)
            if label is None:
                continue
            image = finder.find(row[named], where)
            if image is None:
                missing.append(printable(f"{row[named]} (line {line})"))
                continue
            masks: tuple[Path, ...] = ()
            if mask_column and row[mask_column]:
                mask = finder.find(row[mask_column], where)
                masks = (mask,) if mask else ()
                missing += [] if mask else [printable(f"{row[mask_column]} (line {line})")]
            picture = Picture(
                path=image,
                label=label,
                split=self._split_of(row, where),
                site=self._value(row, "site", where) or "all",
                patient=self._value(row, "patient", where),
                masks=masks,
            )
            before, first = made.setdefault(image, (picture, int(line)))
            if before != picture:
                raise DataError(f"{where} says otherwise of {image.name} than line {first}: one row for each image")
        written = ((picture.label, line) for picture, line in made.values())
        several = self.params.task == "multi-label"
        refuse_similar(
            {name: f"line {line}" for label, line in written for name in (findings_of(label) if several else (label,))}
        )
        return [picture for picture, _ in made.values()], missing

    def _value(self, row: dict[str, str], what: str, where: str) -> str | None:
        name = self._columns[what]
        if name is None:
            return None
        if not row[name]:
            raise DataError(f"{where}: column {name!r} ({what}) is empty; fill it, or leave it out with {what}=-")
        if row[name].casefold() in MISSING and what != "split":
            raise DataError(
                f"{where}: column {name!r} ({what}) says {row[name]!r}, as tools write a missing value, and all such "
                f"rows would be of one {what}; fill it, or leave it out with {what}=-"
            )
        return printable(row[name])

    def _split_of(self, row: dict[str, str], where: str) -> str:
        value = self._value(row, "split", where)
        if value is None:
            return ""
        if value.lower() not in OFFICIAL:
            name = self._columns["split"]
            known = ", ".join(OFFICIAL)
            raise DataError(f"{where}: {value!r} in column {name!r} is no split ({known}); split=- leaves it out")
        return OFFICIAL[value.lower()]

    def _label_of(self, row: dict[str, str], where: str) -> str | None:
        """The name of the class, or the findings; None where there is no label."""
        p = self.params
        return label_of(row, str(self._columns["label"]), p.task, p.separator, p.lesion, where)

    def facts(self) -> list[str]:
        """The columns that are read, rows without a label, files elsewhere."""
        table, columns = self._table, self._columns
        path = table.path
        used = ", ".join(f"{what}={name}" for what, name in columns.items() if name)
        lines = [f"table {path.name}: {rbmed.plural(len(table.rows), 'row')}, {used}"]
        label = str(columns["label"])
        if label in table.columns and (unlabelled := sum(not row[label] for row in table.rows)):
            left = ("row without a label is left out", "rows without a label are left out")
            lines.append(rbmed.plural(unlabelled, *left))
        lines += [self._no_split] if self._no_split else []
        pictures = self._rows[0]
        lines += self._finder.notes()
        used_files = {path for picture in pictures for path in (picture.path, *picture.masks)}
        if unlisted := self._finder.unlisted(used_files):
            lines.append(
                f"{rbmed.plural(len(unlisted), 'image')} in the folder "
                f"{'has no row with a label and is' if len(unlisted) == 1 else 'have no row with a label and are'} "
                "left out: "
                f"{some([printable(each.name) for each in unlisted])}"
            )
        outside = [picture.path for picture in pictures if not picture.path.is_relative_to(path.parent)]
        if outside:
            lines.append(
                f"{rbmed.plural(len(outside), 'image is', 'images are')} named by absolute paths "
                "outside the folder of the table"
            )
        return lines

    def check(self) -> list[str]:
        """Problems of every row and file; missing files, all of them, come first."""
        missing = self._rows[1]
        if missing:
            return [f"image {name} of table {self._table.path} is missing" for name in missing]
        return super().check()
