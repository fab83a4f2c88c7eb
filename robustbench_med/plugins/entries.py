"""What the registry holds: offered specs with their origin, and the classes that they name."""

from __future__ import annotations

import importlib.metadata
import inspect
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_med.errors import UsageError
from robustbench_med.plugins.calls import process_kept
from robustbench_med.plugins.specs import Spec


@dataclass(frozen=True)
class RegistryEntry:
    """A spec and where it came from.

    Attributes:
        spec: what is offered.
        distribution: normalized name of the distribution, or the stem of a file given with ``-p``.
        version: version of the distribution; of a file, ``0+`` and the start of its content's digest.
        plugin: entry-point name, or path of the file.
    """

    spec: Spec
    distribution: str
    version: str
    plugin: str

    @property
    def qualified(self) -> str:
        """``distribution/name``, which is never ambiguous."""
        return f"{self.distribution}/{self.spec.name}"

    def __str__(self) -> str:
        return f"{self.spec.kind} {self.spec.name!r} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Plugin:
    """A plugin that was imported (some of its hooks may have failed)."""

    name: str
    distribution: str
    version: str


@dataclass(frozen=True)
class LoadFailure:
    """A failed plugin or hook. Stages: ``metadata``, ``import``, ``interface``, ``register``, ``hook rbmed_...``."""

    plugin: str
    distribution: str
    stage: str
    error: str

    def __str__(self) -> str:
        return f"{self.distribution} failed to load ({self.stage}: {self.error})"


def load_target(entry: RegistryEntry) -> type[Any]:
    """Import the class that a spec names.

    Raises:
        UsageError: the import fails (the message names a missing package and the extra that installs it), or the target
            is not a complete class of the spec's kind.
    """
    try:
        with process_kept():
            value = pkgutil.resolve_name(entry.spec.target)
    except ModuleNotFoundError as error:
        raise UsageError(f"{entry} cannot be used: {_missing(entry, error)}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(f"{entry} cannot be used: target {entry.spec.target} fails: {reason}") from error
    base = pkgutil.resolve_name(entry.spec.base)
    if not (isinstance(value, type) and issubclass(value, base)):
        raise UsageError(f"{entry}: target {entry.spec.target} is not a subclass of robustbench_med.{base.__name__}")
    if inspect.isabstract(value):
        missing = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
        raise UsageError(f"{entry}: class {entry.spec.target} does not implement {missing}")
    return value


def _missing(entry: RegistryEntry, error: ModuleNotFoundError) -> str:
    """The missing package, and the extra of the distribution that installs it."""
    module = (error.name or "").partition(".")[0]
    if module == entry.spec.target.partition(":")[0].partition(".")[0]:
        file = Path(entry.plugin)
        if file.suffix == ".py" and module != file.stem:
            name = entry.spec.target.partition(":")[2]
            return (
                f"its target {entry.spec.target} names a file {module}.py, and this one is {file.name}: write "
                f'target="{file.stem}:{name}" or rename the file'
            )
        return f"target {entry.spec.target} fails: {error}"
    try:
        requires = importlib.metadata.requires(entry.distribution) or []
    except importlib.metadata.PackageNotFoundError:  # a file given with -p
        requires = []
    for requirement in requires:
        package = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*[\"']([^\"']+)", requirement)
        if package and extra and package[0].replace("-", "_").lower() == module.lower():
            return f"{module!r} is missing; install '{entry.distribution}[{extra[1]}]'"
    return f"{module!r} is missing (imported by {entry.spec.target}); install the package that provides it"
