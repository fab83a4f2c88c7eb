"""`Record.dataset`: which images were used."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field

from robustbench_med.files.redact import portable
from robustbench_med.plugins.references import format_ref
from robustbench_med.records.sections.base import Count, Name, NotNull, RecordSection, Text

if TYPE_CHECKING:
    from robustbench_med.grid.cell import Cell
    from robustbench_med.interfaces.dataset import DataCard
    from robustbench_med.plugins.entries import RegistryEntry


class DatasetOptions(RecordSection):
    """The options on data that were given on the command line."""

    dataset: Name | None = None
    """The data set, with its parameters."""

    partition: Name | None = None
    """How clients were made of the data set; null for the data set's own."""

    unseen_site: list[Name] = Field(default_factory=list)
    """Clients that take no part in training."""

    client: list[Name] = Field(default_factory=list)
    """Clients that are evaluated; empty for all."""

    @classmethod
    def of(cls, cell: Cell) -> DatasetOptions:
        """The options of a cell."""
        return cls(
            dataset=portable(format_ref(cell.dataset)),
            partition=format_ref(cell.trained.partition) if cell.trained.partition else None,
            unseen_site=list(cell.trained.unseen),
            client=list(cell.clients),
        )


class FoldSection(RecordSection):
    """Of which cross-validation the test split is a part."""

    number: Count
    """Of the fold, from 0."""

    of: Annotated[int, Field(ge=2, le=1000)]
    """Number of folds."""

    pool: Name
    """Digest of the cross-validation; equal for its folds."""

    @pydantic.model_validator(mode="after")
    def _exists(self) -> FoldSection:
        if self.number >= self.of:
            raise ValueError(f"fold {self.number} of {self.of}, which are counted from 0")
        return self


class DatasetSection(RecordSection):
    """The data set of a cell."""

    name: Name
    """Name of the data set, as in its card."""

    distribution: Name = ""
    """Name and version of the distribution that offers it."""

    params_passed: dict[Name, Any]
    """Parameters that were given."""

    partition: Name | None = None
    """How clients were made of the data set; null for the data set's own."""

    digest: Annotated[Name | None, NotNull] = None
    """Hash that changes whenever images, labels or splits do; None where the record does not have it."""

    fold: Annotated[FoldSection | None, NotNull] = None
    """The fold of a cross-validation; None for a single split."""

    synthetic: bool
    """The images are simulated."""

    licence: Text = ""
    """Terms of the images."""

    classes: list[Name] = Field(default_factory=list)
    """Names of the classes, in the order of the labels."""

    lesion_class: Count | None = None
    """The class that sensitivity counts; null where there is none, and in formats before 5."""

    task: Annotated[Name | None, NotNull] = None
    """`multi-label` or `ordinal`; None for one class of several."""

    notes: list[Text] = Field(default_factory=list)
    """Facts that a reader must know, such as a client that was left out."""

    revision: Count = 1
    """Revision of the component; it changes when the same parameters give other images."""

    asked: Annotated[DatasetOptions | None, NotNull] = None
    """Options that were given; None in records of formats before 4."""

    @classmethod
    def of(cls, cell: Cell, card: DataCard, entry: RegistryEntry) -> DatasetSection:
        """The data set of a cell; ``entry`` is the plugin that offers it."""
        partition = format_ref(cell.trained.partition) if cell.trained.partition else None
        more: dict[str, Any] = {} if card.task == "multi-class" else {"task": card.task}
        if card.fold is not None:
            more["fold"] = FoldSection(**dataclasses.asdict(card.fold))
        return cls(
            name=card.name,
            distribution=f"{entry.distribution} {entry.version}",
            params_passed=portable(dict(cell.dataset.params)),
            partition=partition,
            digest=card.digest,
            synthetic=card.synthetic,
            licence=card.licence,
            classes=list(card.classes),
            lesion_class=card.lesion_class,
            **more,
            notes=list(card.notes),
            revision=entry.spec.revision,
            asked=DatasetOptions.of(cell),
        )
