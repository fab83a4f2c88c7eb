"""A check: one sentence that must be true of a component, tested on a `Subject`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from robustbench_med.errors import UsageError
from robustbench_med.plugins.components import create
from robustbench_med.plugins.entries import RegistryEntry, load_target
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry

T = TypeVar("T")
#: Seconds after which a check is stopped. Those of the components here take seconds.
LONGEST = 300.0


class NotApplicable(Exception):
    """A check does not apply to this component; the message says why."""


class Subject:
    """A component under test.

    Args:
        registry: offers the component.
        entry: the component.
        params: its parameters, as in a reference.
        data_root: folder of the user's images, for data sets that need one.
        parts: registry of a recipe's parts; ``registry`` by default.
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
        """The result of costly ``work`` that several checks use; the first check gets the error if it fails.

        Raises:
            NotApplicable: the work has failed in an earlier check.
        """
        if key not in self._made:
            try:
                self._made[key] = work()
            except BaseException:  # also one that was stopped
                self._made[key] = NotApplicable("it does not run")
                raise
        if isinstance(made := self._made[key], NotApplicable):
            raise made
        return made  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"{self.entry.spec.kind}/{self.entry.spec.name}"


class _TooLong(BaseException):
    """A check is stopped; no `Exception`, which a plugin may catch before it goes on."""


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Stop what runs within this block after so long, and again each second; only possible in the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Check:
    """One sentence that must be true of each component of a kind.

    Attributes:
        name: lower case with dashes, unique within the kind.
        about: the sentence.
        look: yields a line per fault; raises `NotApplicable` if the check does not apply to the subject.
    """

    name: str
    about: str
    look: Callable[[Subject], Iterator[str]]

    def on(self, subject: Subject) -> Result:
        """Run the check; any exception of the plugin is a fault."""
        start = time.perf_counter()
        faults: list[str] = []
        reason = ""
        try:
            with _no_longer_than(LONGEST):
                faults = list(self.look(subject))
        except _TooLong:
            faults = [f"did not end within {LONGEST:.0f} s and was stopped; does it loop, or catch what should end it?"]
        except NotApplicable as skip:
            reason = str(skip)
        except UsageError as error:
            faults = [str(error)]
        except Exception as error:  # noqa: BLE001 -- any exception of a plugin is a fault
            faults = [f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"]
        return Result(subject, self, tuple(faults), reason, time.perf_counter() - start)


@dataclass(frozen=True)
class Result:
    """The result of a check.

    Attributes:
        subject, check: the component and the check.
        faults: a line each; empty if the check passed.
        skipped: why the check does not apply; empty if it does.
        seconds: wall time.
    """

    subject: Subject
    check: Check
    faults: tuple[str, ...]
    skipped: str
    seconds: float


class Checks:
    """The checks of one kind, in the order in which they are shown."""

    def __init__(self) -> None:
        self.all: list[Check] = []

    def __call__(self, name: str, about: str) -> Callable[[Callable[[Subject], Iterator[str]]], Check]:
        """A decorator that makes a function the check ``name``."""

        def add(look: Callable[[Subject], Iterator[str]]) -> Check:
            check = Check(name, about, look)
            self.all.append(check)
            return check

        return add
