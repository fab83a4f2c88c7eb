"""Runs a Python file as `python FILE` would: modules beside it can be imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from rbmed_models.foreign.imports import dependencies, package_root, read
from robustbench_med.errors import BadParameter

#: Modules that are never run anew.
KEPT = ("robustbench_med", "rbmed_")


@contextmanager
def running(file: Path) -> Iterator[ModuleType]:
    """The module of a file; what it imports lazily can be imported inside the block.

    Its own modules are read from the disk each time, since they may have changed; modules of the same names that were
    imported from elsewhere come back where the file does not replace them.

    Raises:
        BadParameter: the file cannot be run.
    """
    covered = set(dependencies(file).values())
    folders = list(dict.fromkeys(str(each) for each in (file.parent.resolve(), package_root(file))))
    hidden = {name: sys.modules.pop(name) for name in _own(folders, covered)}
    before, cached = list(sys.path), sys.dont_write_bytecode
    sys.path[:0] = folders
    sys.dont_write_bytecode = True  # the cache tells versions apart by the second and the size only
    try:
        yield _run(file)
    finally:
        # The folders stay on the path, last, for imports inside of functions that are called later.
        sys.path[:] = [*before, *(folder for folder in folders if folder not in before)]
        sys.dont_write_bytecode = cached
        for name, module in hidden.items():
            sys.modules.setdefault(name, module)


def _own(folders: Iterable[str], covered: set[Path]) -> list[str]:
    """Loaded modules that the file may mean others by, or another version of."""
    names = {
        place.stem
        for folder in folders
        for place in Path(folder).iterdir()
        if place.suffix == ".py" or (place / "__init__.py").is_file()
    } - sys.stdlib_module_names
    found = []
    for name, module in sys.modules.items():
        file = getattr(module, "__file__", None)
        mine = name.partition(".")[0] in names or (file is not None and Path(file) in covered)
        if mine and name != "__main__" and not name.startswith(KEPT):
            found.append(name)
    return found


def _run(file: Path) -> ModuleType:
    name = _name(file)
    if (inside := _in_package(name, file)) is not None:
        return inside
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadParameter(f"{file} cannot be run: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    with _faults(file):
        spec.loader.exec_module(module)
    return module


def _in_package(name: str, file: Path) -> ModuleType | None:
    """The module of a file in a package, imported as any other: packages first, which often import it themselves."""
    if "." not in name or file.name == "__init__.py":
        return None
    with _faults(file):
        module = importlib.import_module(name)
    found = getattr(module, "__file__", None)
    return module if found and Path(found).resolve() == file.resolve() else None


@contextmanager
def _faults(file: Path) -> Iterator[None]:
    """What goes wrong in foreign code that is run, as one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        above = [folder for folder in file.resolve().parents[:4] if _holds(folder, str(error.name).partition(".")[0])]
        remedy = f"; {above[0]} holds it: set PYTHONPATH={above[0]}" if above else ""
        raise BadParameter(
            f"{file} cannot be run: it imports {error.name!r}, which is neither installed nor beside it{remedy}"
        ) from error
    except SystemExit as error:
        raise BadParameter(
            f"{file} cannot be run: it ends the program (SystemExit: {error}); what is not for an import, such as "
            "reading the command line or training, belongs under if __name__ == '__main__'"
        ) from None
    except Exception as error:
        raise BadParameter(f"{file} cannot be run: {told(error)}") from error


def _holds(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _name(file: Path) -> str:
    """The name under which the file is imported: that in its package, if it lies in one or imports relatively."""
    folder, root = file.parent.resolve(), package_root(file)
    parts = folder.relative_to(root).parts
    if not parts and any(level for level, _ in read(file.read_bytes()).modules):
        package = ModuleType(f"{folder.name.replace('.', '_')}")
        package.__path__ = [str(folder)]
        sys.modules.setdefault(package.__name__, package)
        parts = (package.__name__,)
    stem = file.stem.replace(".", "_")
    taken = not parts and (stem in sys.modules or stem in sys.stdlib_module_names)
    return ".".join((*parts, f"_{stem}" if taken else stem))


def told(error: BaseException, most: int = 300) -> str:
    """An error of foreign code on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:most]


def chosen(module: ModuleType, file: Path, name: str) -> object:
    """What the module calls ``name``.

    Raises:
        BadParameter: there is no such function, class or module.
    """
    found: object = getattr(module, name, None)
    if callable(found):
        return found
    own: Mapping[str, object] = vars(module)
    there = [
        each
        for each, value in own.items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and not each.startswith("_")
    ]
    known = f"; it has {', '.join(there)}" if there else ""
    raise BadParameter(f"{file} has no function {name!r}; write --model {file}:NAME{known}")
