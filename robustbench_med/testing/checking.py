"""What a check is: one sentence that must be true of a component, tried on a `Subject`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from robustbench_med.errors import UsageError
from robustbench_med.plugins.components import create, load_target
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry, RegistryEntry

T = TypeVar("T")


class NotApplicable(Exception):
    """A check does not concern this component; the message says why."""


class Subject:
    """A component under test.

    Args:
        registry: offers the component.
        entry: the component.
        params: its parameters, as in a reference.
        data_root: folder of the user's images, for data sets that need one.
        parts: where a recipe's parts are looked up; ``registry`` by default.
    """

    def __init__(
        self,
        registry: Registry,
        entry: RegistryEntry,
        params: PartRef | None = None,
        data_root: Path | None = None,
        parts: Registry | None = None,
    ) -> None:
        self.registry, self.entry, self.data_root = registry, entry, data_root
        self.parts = parts or registry
        self.ref = PartRef(entry.qualified, params.params if params else {})
        self._made: dict[str, Any] = {}

    @cached_property
    def cls(self) -> type[Any]:
        """The class that the spec names."""
        return load_target(self.entry)

    def build(self, **arguments: Any) -> Any:
        """A fresh component with the subject's parameters."""
        return create(self.registry, self.entry.spec.kind, self.ref, **arguments)

    def once(self, key: str, work: Callable[[], T]) -> T:
        """The result of costly ``work`` that several checks look at; whoever asks first hears of its failure.

        Raises:
            NotApplicable: the work has failed before.
        """
        if key not in self._made:
            try:
                self._made[key] = work()
            except Exception:
                self._made[key] = NotApplicable("it does not run")
                raise
        if isinstance(made := self._made[key], NotApplicable):
            raise made
        return made  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"{self.entry.spec.kind}/{self.entry.spec.name}"


@dataclass(frozen=True)
class Check:
    """One sentence that must be true of each component of a kind.

    Attributes:
        name: lower case with dashes, unique within the kind.
        about: the sentence.
        look: yields a line per fault; raises `NotApplicable` where the check does not concern the subject.
    """

    name: str
    about: str
    look: Callable[[Subject], Iterator[str]]

    def on(self, subject: Subject) -> Result:
        """Try it; whatever the plugin raises is a fault."""
        start = time.perf_counter()
        faults: list[str] = []
        reason = ""
        try:
            faults = list(self.look(subject))
        except NotApplicable as skip:
            reason = str(skip)
        except UsageError as error:
            faults = [str(error)]
        except Exception as error:  # noqa: BLE001 -- whatever a plugin raises is a fault to list
            faults = [f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"]
        return Result(subject, self, tuple(faults), reason, time.perf_counter() - start)


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        subject, check: who was asked what.
        faults: a line each; empty: all is well.
        skipped: why the check does not concern the subject, if so.
        seconds: wall time.
    """

    subject: Subject
    check: Check
    faults: tuple[str, ...]
    skipped: str
    seconds: float


class Checks:
    """Collects the checks of one kind, in the order in which they are shown."""

    def __init__(self) -> None:
        self.all: list[Check] = []

    def __call__(self, name: str, about: str) -> Callable[[Callable[[Subject], Iterator[str]]], Check]:
        """Make a function the check called ``name``."""

        def add(look: Callable[[Subject], Iterator[str]]) -> Check:
            check = Check(name, about, look)
            self.all.append(check)
            return check

        return add
