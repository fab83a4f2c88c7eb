"""The files that a Python file depends on: what it imports that is not installed, found without running it."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Where installed packages and the standard library are; their versions are in every record.
INSTALLED = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True)
class Found:
    """What the text of a file refers to.

    Attributes:
        modules: imported modules as (level, dotted name); each may also be a name in a module.
        texts: its short strings, which may be paths.
        dynamic: it imports modules by computed names.
    """

    modules: frozenset[tuple[int, str]]
    texts: frozenset[str]
    dynamic: bool


def dependencies(file: Path) -> dict[str, Path]:
    """The file and all files that it depends on, by names relative to its folder.

    Followed are imports of modules beside the file or on the path but not installed, wherever they stand in the code.
    A file whose code imports by computed names depends on all Python files beneath its folder. Files that the code
    names in a string belong to it as well, such as a configuration that it reads.
    """
    folder, start = file.parent.resolve(), file.resolve()
    seen: dict[Path, None] = {}
    waiting = [start]
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen[each] = None
        if each.suffix == ".py":
            waiting += [other for other in (*_packages(each), *_followed(each, folder)) if other not in seen]
    named = {os.path.relpath(each, folder): each for each in seen if each != start}
    return {"": file, **named}


def _packages(file: Path) -> Iterator[Path]:
    """The code of the packages that a file lies in, which runs when it is imported."""
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        yield (folder / "__init__.py").resolve()
        folder = folder.parent


def package_root(file: Path) -> Path:
    """The folder from which the file is imported: its own, or that above its outermost package."""
    folder = file.parent.resolve()
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


def _followed(file: Path, folder: Path) -> Iterator[Path]:
    try:
        found = read(file.read_bytes())
    except OSError:
        return  # the digest says so
    roots = list(dict.fromkeys([folder, file.parent, package_root(file)]))
    for level, name in found.modules:
        if level:
            start = file.parents[level - 1] if level <= len(file.parents) else file.parent
            yield from _in([start], name)
        else:
            yield from _in(roots, name) or _elsewhere(name)
    if found.dynamic:
        yield from _beneath(file.parent)
    for text in found.texts:
        if file.name == "__init__.py" and text.isidentifier():  # `__all__` may name modules
            yield from _in([file.parent], text)
        for base in (file.parent, Path.cwd()):
            if os.path.isfile(base / text) and not _installed(base / text):  # noqa: PTH113 - raises for no text
                yield (base / text).resolve()


def _beneath(folder: Path) -> Iterator[Path]:
    """All Python files in a folder, but for environments and what is hidden."""
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in ("site-packages", "__pycache__", "node_modules")
            and not (Path(place) / name / "pyvenv.cfg").is_file()
        ]
        yield from (Path(place, name).resolve() for name in names if name.endswith(".py"))


def _in(roots: list[Path], name: str) -> list[Path]:
    """The files that importing ``name`` would run, if one of the roots has it; the first that has wins."""
    parts = [part for part in name.split(".") if part]
    for root in roots:
        files = [root / "__init__.py"] if not parts else []
        place = root
        for part in parts:
            found = [place / f"{part}.py", place / part / "__init__.py"]
            files += [each for each in found if each.is_file()]
            files += place.glob(f"{part}.*.so") if place.is_dir() else []
            place /= part
        files = [each.resolve() for each in files if each.is_file()]
        if files:
            return files
    return []


def _elsewhere(name: str) -> list[Path]:
    """Files of a module on the path that is neither installed nor ours."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "robustbench_med" or top.startswith("rbmed_"):
        return []
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return []
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    origin = Path(spec.origin) if spec is not None and spec.origin not in (None, "built-in", "frozen") else None
    root = places[0].parent if places else origin.parent if origin else None
    return [] if root is None or _installed(places[0] if places else root) else _in([root.resolve()], name)


def _installed(path: Path) -> bool:
    return any(path.resolve().is_relative_to(folder) for folder in INSTALLED)


@functools.lru_cache(maxsize=512)
def read(code: bytes) -> Found:
    """What a text refers to; nothing of one that is not Python: running it says why."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return Found(frozenset(), frozenset(), False)
    modules: set[tuple[int, str]] = set()
    texts: set[str] = set()
    dynamic = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [alias.name for alias in node.names if alias.name != "*"]
            modules |= {(node.level, base), *((node.level, f"{base}.{name}".strip(".")) for name in names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 1000:
            texts.add(node.value)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _IMPORTERS:
                first = node.args[0] if node.args else None
                if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                    name = str(first.value)
                    modules.add((len(name) - len(name.lstrip(".")), name.lstrip(".")))
                else:
                    dynamic = True
    return Found(frozenset(modules), frozenset(texts), dynamic)


#: Functions that import a module by its name or by its file.
_IMPORTERS = {
    *("import_module", "__import__", "spec_from_file_location", "iter_modules", "walk_packages", "exec", "run_path"),
    *("SourceFileLoader", "load_source"),
}
