"""A published table, measured anew: the paper's row beside ours and beside the adaptive worst case.

A distribution ships a reproduction as a TOML file in its package and names it in its `DefenseSpec`:

- ``title``, ``source``, ``note``: what was published where, and what a reader must know.
- ``[size]``: side of the images for each value of the defenses' parameter ``preset``, the default first.
- ``[run]``: a configuration of ``rbmed run`` less its defenses; the first attack is the paper's, others are controls.
- ``[adaptive]``: what differs where the worst case of an access ladder is measured; its attacks are the ladder's own,
  unless one is named here.
- ``[[row]]``: a defense by ``name``, and the ``published`` figures in percent, if any.
"""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydantic

from robustbench_med.errors import BadConfig, BadParameter, UsageError, first_fault
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.grid.options import Ref, reference
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.plugins.registry import Registry
from robustbench_med.progress import Progress
from robustbench_med.records.record import Record

if TYPE_CHECKING:
    pass


class PublishedFigures(pydantic.BaseModel):
    """What the paper says, in percent."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    clean: float = pydantic.Field(ge=0, le=100)
    attacked: float = pydantic.Field(ge=0, le=100)


class PublishedRow(pydantic.BaseModel):
    """A line of the table: a defense, and what was published of it."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: str
    defense: Ref
    published: PublishedFigures | None = None


class Reproduction(pydantic.BaseModel):
    """A published table and how to measure it; the module says what the keys mean."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    title: str
    source: str
    note: str = ""
    size: dict[str, int] = pydantic.Field(min_length=1)
    run: dict[str, Any]
    adaptive: dict[str, Any]
    row: tuple[PublishedRow, ...] = pydantic.Field(min_length=1)


@dataclass(frozen=True)
class MeasuredRow:
    """A row with its records.

    Attributes:
        row: what was published.
        measured: in the paper's setting, one record per attack; the first is the paper's, the others are controls.
        worst: of the ladder.
    """

    row: PublishedRow
    measured: tuple[Record, ...]
    worst: Record


def find(registry: Registry, name: str) -> Reproduction:
    """The reproduction that ships with the defense ``name``.

    Raises:
        UnknownName, AmbiguousName: there is no such defense, or more than one.
        UsageError: it ships none.
        BadConfig: the file is broken.
    """
    entry = registry.find("defense", name)
    where: str = getattr(entry.spec, "reproduction", "")
    if not where:
        shipping = (each.spec for each in registry.entries("defense") if getattr(each.spec, "reproduction", ""))
        others = ", ".join(spec.name for spec in shipping) or "none does"
        raise UsageError(f"{entry} ships no reproduction; valid: {others}")
    package, _, file = where.partition(":")
    try:
        text = importlib.resources.files(package).joinpath(file).read_text(encoding="utf-8")
        return Reproduction.model_validate(tomllib.loads(text))
    except (OSError, ImportError, TypeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"reproduction {where} of {entry} cannot be read: {error}") from None
    except pydantic.ValidationError as error:
        raise BadConfig(f"reproduction {where} of {entry}: {first_fault(error)}") from None


class Study:
    """A reproduction that is being measured.

    Args:
        reproduction: what is published, and how it is measured.
        options: options of ``rbmed run`` that win over those of the file.
        preset: of the defenses; by default the first.
        size: side of the images in pixels; by default that of the preset.
        adaptive_limit: images for the ladder; by default those of the file, and no more than in the paper's setting.
        registry: where the components come from.
        progress: opens progress bars.

    Raises:
        UsageError: anything the user can fix; nothing has been trained or written then.
    """

    def __init__(
        self,
        reproduction: Reproduction,
        options: dict[str, Any],
        preset: str | None = None,
        size: int | None = None,
        adaptive_limit: int | None = None,
        *,
        registry: Registry,
        progress: Progress | None = None,
    ) -> None:
        from robustbench_med.grid.cell import cell_of
        from robustbench_med.grid.plan import plan
        from robustbench_med.runner.runner import Runner

        self.reproduction = reproduction
        self.configs = configs(reproduction, options, preset, size, adaptive_limit)
        self.cells = [[cell_of(each) for each in plan(config, registry)] for config in self.configs]
        self.runners = [Runner(config, registry, progress) for config in self.configs]
        for cells, runner in zip(self.cells, self.runners, strict=True):
            # What is loaded for one is loaded for both.
            runner.loader = self.runners[0].loader
            for cell in cells:
                runner.check(cell)

    def run(self) -> Iterator[Record]:
        """Measure; what is missing is trained first. Yields each record once it is on disk."""
        for runner in self.runners:
            yield from runner.run()

    def lines(self, records: list[Record]) -> list[MeasuredRow]:
        """All records of `run`, in their order, as the lines of the table."""
        rows = self.reproduction.row
        attacks = len(self.cells[0]) // len(rows)
        first, rest = records[: len(self.cells[0])], records[len(self.cells[0]) :]
        return [
            MeasuredRow(row, tuple(first[at * attacks : (at + 1) * attacks]), rest[at]) for at, row in enumerate(rows)
        ]


def configs(
    reproduction: Reproduction,
    options: dict[str, Any],
    preset: str | None = None,
    size: int | None = None,
    adaptive_limit: int | None = None,
) -> tuple[RunConfig, RunConfig]:
    """The paper's setting, and the ladder; arguments as of `Study`.

    Raises:
        BadParameter: an unknown preset, or a value that does not fit.
    """
    sizes = reproduction.size
    if preset is not None and preset not in sizes:
        raise BadParameter(f"unknown --preset {preset!r}; valid: {', '.join(sizes)}")
    given = {name: value for name, value in options.items() if value is not None}
    run = {**reproduction.run, **given, "baseline": "", "train": True}
    run["defense"] = [_with_preset(row.defense, preset, sizes) for row in reproduction.row]
    run["dataset"] = _sized(run["dataset"], size or sizes[preset or next(iter(sizes))])
    if "surrogate" in run:
        run["surrogate"] = _with_preset(run["surrogate"], preset, sizes)
    exact = build(run)
    ladder = {**{name: value for name, value in run.items() if name != "attack"}, **reproduction.adaptive}
    limits = (adaptive_limit or ladder.get("limit"), given.get("limit"))
    ladder["limit"] = min((limit for limit in limits if limit is not None), default=None)
    return exact, build(ladder)


def _with_preset(ref: Ref, preset: str | None, sizes: dict[str, int]) -> str:
    """The defense with its parameter ``preset``, unless that is its default."""
    part = reference(ref, "defense")
    chosen = {} if preset in (None, next(iter(sizes))) else {"preset": preset}
    return format_ref(PartRef(part.name, {**chosen, **part.params}))


def _sized(ref: Ref, size: int) -> str:
    part = reference(ref, "dataset")
    return format_ref(PartRef(part.name, {**part.params, "size": size}))
