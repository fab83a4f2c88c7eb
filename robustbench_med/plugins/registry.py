"""Finds plugins, records those that fail to load, and looks components up by name.

Each entry point of the group ``rbmed`` and each hook is loaded by itself: a failure is kept as a `LoadFailure`, shown,
and does not affect the others. A target is imported only when it is used.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from robustbench_med.errors import AmbiguousName, UnknownName, UsageError, near
from robustbench_med.plugins import hookspecs
from robustbench_med.plugins.calls import process_kept
from robustbench_med.plugins.entries import LoadFailure, Plugin, RegistryEntry, load_target
from robustbench_med.plugins.specs import INTERFACE, SPEC_TYPES, Spec

GROUP = "rbmed"
#: Hook name by kind, in the order in which kinds are shown.
HOOKS = {
    "attack": "rbmed_attacks",
    "detector": "rbmed_detectors",
    "purifier": "rbmed_purifiers",
    "strategy": "rbmed_strategies",
    "dataset": "rbmed_datasets",
    "model": "rbmed_models",
    "defense": "rbmed_defenses",
    "metric": "rbmed_metrics",
    "report": "rbmed_reports",
}
_PLURALS = {hook.removeprefix("rbmed_"): kind for kind, hook in HOOKS.items()}
_SPEC_OF = {HOOKS[spec.kind]: spec for spec in SPEC_TYPES}


class Registry:
    """Everything the installed plugins offer.

    Args:
        files: unpackaged plugin files, loaded besides the installed ones (``-p``).
        only: entry-point or distribution names to load; None reads ``RBMED_PLUGINS`` (comma-separated, unset or empty
            means all), and an empty sequence loads no installed plugin.

    Raises:
        UsageError: a file does not exist or cannot be imported under its name, or ``only`` names an unknown plugin.
    """

    def __init__(self, files: Iterable[str | Path] = (), only: Sequence[str] | None = None) -> None:
        self.files = tuple(Path(file) for file in files)
        self.plugins: list[Plugin] = []
        self.failures: list[LoadFailure] = []
        self._entries: dict[tuple[str, str, str], RegistryEntry] = {}
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        if only is None:
            only = [name.strip() for name in os.environ.get("RBMED_PLUGINS", "").split(",") if name.strip()] or None
        self.only = None if only is None else tuple(only)
        self._load_installed(only)
        for file in self.files:
            self._load_file(file)

    # --- look-up -------------------------------------------------------------------------------------------------

    def entries(self, kind: str | None = None) -> list[RegistryEntry]:
        """All entries of one kind (default: of all), sorted by kind, name and distribution."""
        kinds = list(HOOKS) if kind is None else [known_kind(kind)]
        found = (entry for entry in self._entries.values() if entry.spec.kind in kinds)
        return sorted(found, key=lambda e: (kinds.index(e.spec.kind), e.spec.name, e.distribution))

    def find(self, kind: str, name: str) -> RegistryEntry:
        """The entry called ``name`` or ``distribution/name``.

        Raises:
            UnknownName: no plugin offers it; the message lists near matches and plugins that failed to load.
            AmbiguousName: several distributions offer it and the name is not qualified.
        """
        offered = self.entries(kind)
        wanted, _, short = name.rpartition("/")
        matches = [e for e in offered if e.spec.name == short]
        if wanted:
            matches = [e for e in matches if _canonical(e.distribution) == _canonical(wanted)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            choices = " or ".join(e.qualified for e in matches)
            raise AmbiguousName(f"{kind} {name!r} is offered by {len(matches)} distributions; write {choices}")
        raise UnknownName(self._unknown(kind, name, offered))

    def load(self, kind: str, name: str) -> type[Any]:
        """Import the target of `find` and return its class.

        Raises:
            UnknownName, AmbiguousName: as `find`.
            UsageError: the target cannot be imported or is not a class of that kind.
        """
        return load_target(self.find(kind, name))

    def _unknown(self, kind: str, name: str, offered: list[RegistryEntry]) -> str:
        names = sorted({e.spec.name for e in offered})
        known = [e.qualified for e in offered] if "/" in name else names
        text = f"unknown {kind} {name!r}{near(name, known, most=3)}"
        text += f" valid: {', '.join(names)}" if names else f" no installed plugin offers any {kind}"
        if self.failures:
            text += f"; {'; '.join(map(str, self.failures))}"
        return text

    # --- discovery -----------------------------------------------------------------------------------------------

    def _load_installed(self, only: Sequence[str] | None) -> None:
        found: dict[str, importlib.metadata.Distribution] = {}
        for dist in importlib.metadata.distributions():
            # Reading the one small file first keeps start-up fast: metadata of other distributions is never parsed.
            text = dist.read_text("entry_points.txt") or ""
            if f"[{GROUP}]" not in text.replace(" ", ""):
                continue
            name = _canonical(str(dist.metadata["Name"]))
            found.setdefault(name, dist)  # as the import system does, the first one on the path wins
        wanted = None if only is None else {_canonical(name) for name in only}
        known: set[str] = set()
        for name, dist in sorted(found.items()):
            try:
                points = [point for point in dist.entry_points if point.group == GROUP]
            except Exception as error:  # noqa: BLE001 -- an ill-formed file may raise anything
                self._failed(Plugin(name, name, dist.version), "metadata", error)
                known.add(name)
                continue
            for point in points:
                known |= {name, _canonical(point.name)}
                if wanted is None or not wanted.isdisjoint({name, _canonical(point.name)}):
                    self._load(point.load, Plugin(point.name, name, dist.version))
        unknown = sorted((wanted or set()) - known)
        if unknown:
            valid = ", ".join(sorted(known)) or "none is installed"
            raise UsageError(f"RBMED_PLUGINS: unknown plugin {', '.join(map(repr, unknown))}; valid: {valid}")

    def _load_file(self, path: Path) -> None:
        name, path = path.stem, path.resolve()
        if not path.is_file():
            raise UsageError(f"plugin file {path} does not exist")
        if path.suffix != ".py" or not name.isidentifier():
            raise UsageError(f"plugin file {path} must be named like a module: letters, digits and _, ending in .py")
        taken = sys.modules.get(name) or importlib.util.find_spec(name)
        origin = getattr(taken, "__file__", None) or getattr(taken, "origin", None)
        if taken is not None and (origin is None or Path(origin).resolve() != path):
            raise UsageError(f"plugin file {path} hides the module {name!r} ({origin or 'built in'}); rename the file")
        digest = hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
        self._load(lambda: _import_file(name, path), Plugin(str(path), name, f"0+{digest}"))

    def add(self, module: ModuleType, plugin: Plugin) -> None:
        """Load a plugin module that is already imported, for tests and notebooks."""
        self._load(lambda: module, plugin)

    def _load(self, load: Callable[[], Any], plugin: Plugin) -> None:
        """Import one plugin, register it and read its hooks; failures are recorded."""
        stage = "import"
        label = f"{plugin.distribution}:{plugin.name}"
        try:
            with process_kept():
                module = load()
            stage = "interface"
            _check_interface(module, plugin)
            stage = "register"
            self._manager.register(module, label)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a plugin may raise anything
            self._failed(plugin, stage, error)
            if stage == "register":
                self._manager.set_blocked(label)
            return
        self.plugins.append(plugin)
        for caller in self._manager.get_hookcallers(module) or []:
            for hook in caller.get_hookimpls():
                if hook.plugin is not module:
                    continue
                try:
                    with process_kept():
                        entries = _read_hook(caller.name, hook.function, plugin)
                    clash = sorted(_key(e) for e in entries if _key(e) in self._entries)
                    if clash:
                        raise ValueError(f"{plugin.distribution} offers {clash[0][1]!r} in another plugin already")
                except (Exception, SystemExit) as error:  # noqa: BLE001 -- a plugin may raise anything
                    self._failed(plugin, f"hook {caller.name}", error)
                else:
                    self._entries.update((_key(entry), entry) for entry in entries)

    def _failed(self, plugin: Plugin, stage: str, error: BaseException) -> None:
        self.failures.append(LoadFailure(plugin.name, plugin.distribution, stage, _line(error)))


def _check_interface(module: Any, plugin: Plugin) -> None:
    """Raise ValueError for a plugin that was written for another version of the hooks and base classes."""
    written_for = getattr(module, "RBMED_INTERFACE", INTERFACE)
    if written_for != INTERFACE:
        newer = isinstance(written_for, int) and written_for > INTERFACE
        remedy = "robustbench-med" if newer else plugin.distribution
        raise ValueError(f"written for interface {written_for!r}, and this is {INTERFACE}; install a newer {remedy}")


def _read_hook(hook: str, function: Callable[[], Any], plugin: Plugin) -> list[RegistryEntry]:
    """Call one hook; raises ValueError or TypeError when it yields anything but valid, distinct specs of its kind."""
    expected = _SPEC_OF.get(hook)
    if expected is None:
        alike = difflib.get_close_matches(hook, _SPEC_OF, n=1)
        hint = f"did you mean {alike[0]}?" if alike else f"valid: {', '.join(_SPEC_OF)}"
        raise ValueError(f"no such hook; {hint}")
    entries: dict[str, RegistryEntry] = {}
    for spec in function():
        if not isinstance(spec, expected):
            shown = f"a {type(spec).__name__}" if isinstance(spec, Spec) else repr(spec)[:60]
            raise TypeError(f"yields {shown}, not a {expected.__name__}")
        if spec.name in entries:
            raise ValueError(f"yields {spec.name!r} twice")
        entries[spec.name] = RegistryEntry(spec, plugin.distribution, plugin.version, plugin.name)
    return list(entries.values())


def _import_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def singular(kind: str) -> str:
    """The kind that people may call by its plural, or with a capital: ``attacks`` and ``Attack`` are ``attack``."""
    found = _PLURALS.get(kind.lower(), kind.lower())
    return found if found in HOOKS else kind


def known_kind(kind: str) -> str:
    """The kind itself; raises `UsageError` with near matches for one that does not exist."""
    if kind in HOOKS:
        return kind
    raise UsageError(f"unknown kind {kind!r}{near(kind, HOOKS)} valid: {', '.join(HOOKS)}")


def _key(entry: RegistryEntry) -> tuple[str, str, str]:
    return entry.spec.kind, entry.spec.name, entry.distribution


def _canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _line(error: BaseException) -> str:
    """The error on one line, with its type."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
