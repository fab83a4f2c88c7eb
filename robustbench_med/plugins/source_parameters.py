"""The parameters of a component, read from the source of its module without importing what that imports.

A mistyped parameter can then be refused before torch is loaded, which takes seconds. Only the definitions that the
class of parameters needs are run; whatever they need of a large library is left out, and used by none of them as long
as parameters are only checked. Where anything is unusual the answer is "not known", and the component is imported later
as ever: nothing is decided here but that an error is said early.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_med.errors import UsageError

if TYPE_CHECKING:
    import pydantic

    from robustbench_med.plugins.entries import RegistryEntry

#: Libraries besides the standard one that are imported where parameters need them: they are small.
LIGHT = frozenset({"robustbench_med", "pydantic", "pydantic_core", "annotated_types", "typing_extensions"})


class NotKnown(Exception):
    """The parameters cannot be told without importing the component."""


@contextlib.contextmanager
def usage_errors_only() -> Iterator[None]:
    """A block that lets only errors of the user through: others may come of what was not imported."""
    try:
        yield
    except UsageError:
        raise
    except Exception:  # noqa: BLE001
        pass


def params_of(entry: RegistryEntry, known: dict[str, _Source] | None = None) -> type[pydantic.BaseModel] | None:
    """The class of parameters of a component; None where only importing it would tell.

    ``known`` keeps what was read, for several components that share modules.
    """
    module, _, name = entry.spec.target.partition(":")
    if module in sys.modules:
        found = getattr(getattr(sys.modules[module], name, None), "Params", None)
        return found if isinstance(found, type) else None
    try:
        found = _source(module, {} if known is None else known).params(name)
    except Exception:  # noqa: BLE001 -- a module may be anything; importing it will say what is wrong
        return None
    return found if isinstance(found, type) else None


def definition(target: str) -> Any:
    """What ``package.module:name`` defines, of which only what it needs was run; None where that cannot be told."""
    module, _, name = target.partition(":")
    if module in sys.modules:
        return getattr(sys.modules[module], name, None)
    try:
        return _source(module, {}).named(name)
    except Exception:  # noqa: BLE001 -- as in `params_of`
        return None


def _source(module: str, known: dict[str, _Source]) -> _Source:
    if module not in known:
        known[module] = _Source(module, known)
    return known[module]


class _Namespace(dict[str, Any]):
    """The names of a module, each found when it is first used."""

    def __init__(self, source: _Source) -> None:
        super().__init__(__name__=source.module, __builtins__=builtins)
        self.source = source

    def __missing__(self, name: str) -> Any:
        if name not in self.source.defined:
            raise KeyError(name)
        return self.source.value(name)


class _Module:
    """A module as an object with attributes."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return self._source.named(name)


class _Source:
    """A module of which single definitions are run."""

    def __init__(self, module: str, known: dict[str, _Source]) -> None:
        self.module, self.known = module, known
        path, self.package = _located(module)
        tree = ast.parse(path.read_bytes())
        self.defined: dict[str, ast.stmt] = {}
        for node in tree.body:
            for name in _names(node):
                self.defined[name] = node
        self.values = _Namespace(self)

    def params(self, name: str) -> Any:
        """The parameters of the class of this name."""
        node = self.defined[name]
        if isinstance(node, ast.ImportFrom):
            return self._elsewhere(node).params(_original(node, name))
        if not isinstance(node, ast.ClassDef) or node.decorator_list:
            raise NotKnown(name)
        for each in node.body:
            if (own := _defines_params(each)) is not None:
                return self._run(own, "Params", f"{name}.Params")
        names = (each for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
        if any(each.id == "Params" for each in names):
            raise NotKnown(name)  # in some unusual way
        for base in node.bases:
            if (found := self._of_base(base)) is not None:
                return found
        return importlib.import_module("robustbench_med.interfaces.component").Params  # the default of all kinds

    def _of_base(self, base: ast.expr) -> Any:
        """The parameters that a base class has; None for classes of the core, which have none of their own."""
        if isinstance(base, ast.Subscript):
            base = base.value
        if isinstance(base, ast.Attribute):
            return None if isinstance(base.value, ast.Name) and self._is_core(base.value.id) else _unknown(base)
        if not isinstance(base, ast.Name):
            return _unknown(base)
        return None if self._is_core(base.id) or base.id == "ABC" else self.params(base.id)

    def _is_core(self, name: str) -> bool:
        node = self.defined.get(name)
        if isinstance(node, ast.ImportFrom):
            return (node.module or "").partition(".")[0] == "robustbench_med"
        return isinstance(node, ast.Import) and any(each.name == "robustbench_med" for each in node.names)

    def named(self, name: str) -> Any:
        """A name that another module imports: one of this module, or a module of this package."""
        if name in self.defined:
            return self.values[name]
        return _Module(_source(f"{self.module}.{name}", self.known))

    def value(self, name: str) -> Any:
        """What a name of the module stands for."""
        node = self.defined[name]
        if isinstance(node, ast.Import):
            each = next(each for each in node.names if (each.asname or each.name.partition(".")[0]) == name)
            self.values[name] = _imported(each.name if each.asname else name)
        elif isinstance(node, ast.ImportFrom):
            self.values[name] = self._from(node, _original(node, name))
        else:
            self._run(node, name, name)
        return self.values[name]

    def _from(self, node: ast.ImportFrom, name: str) -> Any:
        if node.level or not _is_light(str(node.module)):
            return self._elsewhere(node).named(name)
        if _heavy(str(node.module), name):
            raise NotKnown(name)
        return getattr(importlib.import_module(str(node.module)), name)

    def _elsewhere(self, node: ast.ImportFrom) -> _Source:
        module = "." * node.level + (node.module or "")
        return _source(importlib.util.resolve_name(module, self.package) if node.level else module, self.known)

    def _run(self, node: ast.stmt, name: str, into: str) -> Any:
        """Run one definition, with what it needs; its value."""
        if into in self.values:
            return self.values[into]
        node = _Prepared(self).visit(node)
        for used in _used(node):
            _ = self.values[used] if used in self.defined and used != name else None
        outer = dict.get(self.values, name)
        code = compile(ast.Module([node], []), self.module, "exec", dont_inherit=True)
        exec(code, self.values)
        found = self.values[name]
        if into != name:  # the module may have something of that name too
            self.values[into] = self.values.pop(name)
            self.values |= {} if outer is None else {name: outer}
        return found


class _Prepared(ast.NodeTransformer):
    """Takes the annotations off functions, and puts the parameters of a component in place of ``Component.Params``."""

    def __init__(self, source: _Source) -> None:
        self.source = source

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
            if each is not None:
                each.annotation = None
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr == "Params" and isinstance(node.value, ast.Name) and not self.source._is_core(node.value.id):
            name = f"{node.value.id}.Params"
            self.source.values[name] = self.source.params(node.value.id)
            return ast.copy_location(ast.Name(name, node.ctx), node)
        return node


def _defines_params(node: ast.stmt) -> ast.stmt | None:
    """The definition of a component's parameters, where a statement of its class is one."""
    match node:
        case ast.ClassDef(name="Params"):
            return node
        case ast.Assign(targets=[ast.Name(id="Params") as name], value=ast.expr() as value):
            return ast.copy_location(ast.Assign([name], value), node)
        case ast.AnnAssign(target=ast.Name(id="Params") as name, value=ast.expr() as value):
            return ast.copy_location(ast.Assign([name], value), node)
    return None


def _unknown(node: ast.expr) -> Any:
    raise NotKnown(ast.unparse(node))


def _is_light(module: str) -> bool:
    root = module.partition(".")[0]
    return root in LIGHT or root in sys.stdlib_module_names


def _imported(module: str) -> Any:
    if not _is_light(module):
        raise NotKnown(module)
    return importlib.import_module(module)


def _heavy(module: str, name: str) -> bool:
    """Whether a name of the core comes with torch."""
    import robustbench_med

    home = robustbench_med._HOME.get(name, "")
    if module != "robustbench_med" or not home.startswith("robustbench_med."):
        return False
    light = ("robustbench_med.plugins.", "robustbench_med.files.", "robustbench_med.interfaces.rate")
    return name not in ("Params", "Number") and not home.startswith(light)


def _used(node: ast.AST) -> Iterator[str]:
    """The names that a definition uses when it is run; what functions use is found when they are called."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    inside = node.body if isinstance(node, ast.FunctionDef) else []
    for each in ast.iter_child_nodes(node):
        if each not in inside:
            yield from _used(each)


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return [node.name]
        case ast.Assign():
            return [each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)) if node.value is not None:
            return [name]
        case ast.Import():
            return [each.asname or each.name.partition(".")[0] for each in node.names]
        case ast.ImportFrom():
            return [each.asname or each.name for each in node.names]
    return []


def _original(node: ast.ImportFrom, name: str) -> str:
    return next(each.name for each in node.names if (each.asname or each.name) == name)


def _located(module: str) -> tuple[Path, str]:
    """The file of a module, and its package; no package on the way is imported."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    name = first
    for each in rest:
        if spec is None:
            break
        name = f"{name}.{each}"
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise NotKnown(module)
    return Path(spec.origin), module if spec.submodule_search_locations else module.rpartition(".")[0]
