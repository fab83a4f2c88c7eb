"""A digest of all that the answers of a module in memory depend on: weights, settings, code, and what its code uses.

Two modules with the same weights may answer differently: by an attribute, a tensor that is no buffer, a hook, a
function that was assigned to it, or a function or a value outside of it that its code names. All of these are looked
at, down to code that is installed, which counts by its name.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import re
import secrets
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Attributes of modules that answers in evaluation do not depend on, or that are kept elsewhere.
_LEFT_OUT = {"training", "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__"}
_LEFT_OUT |= {
    "__static_attributes__",
    "__annotations__",
    "__annotations_cache__",
    "__annotate_func__",
    "__orig_bases__",
}
#: Mappings of modules whose keys count all hooks of the process.
_HOOKS = re.compile(r"_\w*hooks\w*$")
#: Objects that are followed at most: a module may hold a whole training. Beyond it nothing is shared with other runs.
MOST = 100_000
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), range, torch.dtype, torch.device, torch.Size)


def module_digest(module: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with the module."""
    digest = _Digest()
    digest.add(module)
    return digest.total.hexdigest()


class _Digest:
    """Follows objects from a module on and adds what they are to one hash."""

    def __init__(self) -> None:
        self.total = hashlib.blake2b(digest_size=8)
        self._seen: dict[int, tuple[int, Any]] = {}  # with the object, so that no other gets its id

    def add(self, value: Any) -> None:
        """Add an object; one that was added before by its number only."""
        if isinstance(value, _PLAIN):
            self._text(type(value).__name__, repr(value))
        elif (before := self._seen.get(id(value))) is not None:
            self._text("again", str(before[0]))
        elif len(self._seen) < MOST:
            self._seen[id(value)] = (len(self._seen), value)
            self._object(value)
        else:  # what is not looked at may differ: a digest that no other module has
            self._text(secrets.token_hex())

    def _text(self, *parts: str) -> None:
        for part in parts:
            data = part.encode(errors="surrogatepass")
            self.total.update(len(data).to_bytes(8) + data)

    def _object(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self._text("array", str(value.dtype), str(value.shape))
            self.total.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, torch.jit.ScriptModule):
            self._text("script", *(getattr(each, "code", "") or "" for each in value.modules()))
            self._mapping(value.state_dict())
        elif isinstance(value, Mapping):
            self._mapping(value)
        elif isinstance(value, list | tuple):
            self._each(type(value).__name__, value)
        elif isinstance(value, set | frozenset):
            self._each("set", sorted(value, key=repr))
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self._each("method", (value.__self__, value.__func__))
        elif isinstance(value, staticmethod | classmethod):
            self._each(type(value).__name__, (value.__func__,))
        elif isinstance(value, property):
            self._each("property", (value.fget,))
        elif isinstance(value, functools.partial):
            self._each("partial", (value.func, value.args, value.keywords))
        elif isinstance(value, types.ModuleType):
            self._text("module", value.__name__, "" if installed(value) else _source(value))
        elif isinstance(value, type):
            self._class(value)
        else:
            self._instance(value)

    def _each(self, kind: str, values: Iterable[Any]) -> None:
        listed = list(values)
        self._text(kind, str(len(listed)))
        for value in listed:
            self.add(value)

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        self._text("mapping", str(len(value)))
        for key, item in value.items():
            self.add(key)
            self.add(item)

    def _tensor(self, value: Tensor) -> None:
        self._text("tensor", str(value.dtype), str(tuple(value.shape)))
        plain = value.detach().cpu()
        if plain.is_quantized or plain.layout != torch.strided:
            self._text(repr(plain))
            return
        flat: Any = plain.resolve_conj().resolve_neg().contiguous().flatten()
        self.total.update(flat.view(torch.uint8).numpy().tobytes())

    def _function(self, value: types.FunctionType) -> None:
        self._text("function", value.__module__ or "", value.__qualname__)
        if installed(value):
            return
        code = value.__code__
        self._text(_source(value) or code.co_code.hex())
        self._each("constants", (each for each in code.co_consts if isinstance(each, _PLAIN)))
        self._each("defaults", (value.__defaults__, value.__kwdefaults__))
        self._each("closure", (_cell(cell) for cell in value.__closure__ or ()))
        for name in sorted(_globals(code)):
            if name in value.__globals__:
                self._text(name)
                self.add(value.__globals__[name])

    def _class(self, value: type) -> None:
        self._text("class", value.__module__, value.__qualname__)
        if installed(value):
            own = issubclass(value, nn.Module) and value.__module__.partition(".")[0] != "torch"
            self._text(_source(value) if own else "")
            return
        self._each("bases", value.__bases__)
        for name, each in sorted(vars(value).items()):
            if name not in _LEFT_OUT:
                self._text(name)
                self.add(each)

    def _instance(self, value: Any) -> None:
        self.add(type(value))
        values = dict(getattr(value, "__dict__", None) or {})
        for name in _slots(type(value)):
            if hasattr(value, name):
                values[name] = getattr(value, name)
        if not values:
            self._text(re.sub(r"0x[0-9a-fA-F]+", "", _shown(value)))
        for name, each in sorted(values.items(), key=lambda item: str(item[0])):
            if name not in _LEFT_OUT and each is not None:
                self._text(str(name))
                hooks = isinstance(each, Mapping) and _HOOKS.search(str(name))
                self.add(list(each.values()) if hooks else each)


@functools.cache
def _places() -> tuple[str, ...]:
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(sorted(f"{Path(place).resolve()}/" for place in found if place))


def installed(value: Any) -> bool:
    """Whether an object's code comes with Python or a package, which a key names and does not read."""
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    if name in (None, "__main__"):
        return False
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None:
        return False
    return (
        file is None or str(Path(file).resolve()).startswith(_places()) or name.partition(".")[0] == "robustbench_med"
    )


def _source(value: types.FunctionType | types.ModuleType | type) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):  # typed at a prompt
        return ""


def _globals(code: types.CodeType) -> set[str]:
    """Names of globals that a function reads, and those of functions in it."""
    found = {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found |= _globals(inner)
    return found


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _slots(kind: type) -> list[str]:
    named = [vars(each).get("__slots__", ()) for each in kind.__mro__]
    return [name for slots in named for name in ([slots] if isinstance(slots, str) else slots)]


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - of any class
        return ""
