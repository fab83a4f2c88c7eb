"""Tensors that report a CUDA device and hold their values on the CPU, and the rules for operations on them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_med.testing.pretend.generator import DEVICE, on_device

#: What the C++ side sees: autograd runs backward passes of this device in the calling thread, as for the CPU.
INNER = torch.device("meta")
#: Operations that wait for the device to know the shape or the values of their result.
WAITING = {
    "aten::_linalg_check_errors",
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::masked_select",
    "aten::multinomial",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
}
COPIES = {"aten::_to_copy", "aten::copy_", "aten::copy"}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
#: Nothing is computed.
FREE = {"aten::detach", "aten::alias", "aten::lift_fresh", "aten::_unsafe_view", "aten::empty", "aten::empty_like"}
#: Frames of these are not where a program waits.
_OURS, _TORCH = str(Path(__file__).parent), str(Path(torch.__file__).parent)


class DeviceTensor(Tensor):
    """A tensor of the pretend device.

    Attributes:
        held: the values, on the CPU.
    """

    held: Tensor
    #: Libraries that serve several frameworks learn from it that this is a tensor of torch.
    __module__ = "torch.pretend"

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        """Wrap values; they are shared, not copied."""
        made: DeviceTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=INNER,
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The pretend device."""
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """As on a GPU."""
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        """As on a GPU."""
        return False

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.held!r})"

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.dim() == 0 else repr(self), spec)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Outside of the context that counts, operations run all the same."""
        return run(func, args, kwargs or {}, Log())


class Log:
    """What the device was asked for.

    Attributes:
        syncs: how often the program waited for the device, by source line.
        launches: operations that compute something, by name; each is at least one kernel on a GPU.
    """

    def __init__(self) -> None:
        self.syncs: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()

    def waited(self) -> None:
        """The program waits for the device at the line that is being executed."""
        frame: Any = sys._getframe(1)
        while frame.f_back and frame.f_code.co_filename.startswith((_OURS, _TORCH)):
            frame = frame.f_back
        place = Path(frame.f_code.co_filename)
        self.syncs[f"{place.parent.name}/{place.name}:{frame.f_lineno}"] += 1


@cache
def _facts(func: Any) -> tuple[str, bool]:
    """Name of an operation, and whether it computes nothing: it gives a view, or memory without values."""
    name: str = func._schema.name
    marked = [argument.alias_info for argument in func._schema.arguments if argument.alias_info is not None]
    view = bool(marked) and not any(info.is_write for info in marked)
    return name, view or name in FREE


def run(func: Any, args: Any, kwargs: dict[str, Any], log: Log) -> Any:
    """Carry out one operation of torch as a CUDA device would, or raise what it would raise."""
    leaves = list(_leaves(args)) + list(_leaves(kwargs.values()))
    ours = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
    asked = kwargs.get("device")
    if not ours and not _is_ours(asked):
        _check_generator(func, leaves, False)
        return func(*args, **kwargs)
    name, free = _facts(func)
    ends_here = _ends_on_device(name, args, asked, bool(ours))
    _check_devices(name, args, leaves, ours)
    _check_generator(func, leaves, ends_here)
    if _waits(name, args, kwargs, ends_here):
        log.waited()
    if not free:
        log.launches[name.removeprefix("aten::")] += 1
    plain_args, plain_kwargs = _map(_plain, args), {key: _map(_plain, value) for key, value in kwargs.items()}
    if asked is not None:
        plain_kwargs["device"] = torch.device("cpu")
    if plain_kwargs.get("pin_memory"):
        plain_kwargs["pin_memory"] = False
    result = func(*plain_args, **plain_kwargs)
    if name == "aten::_to_copy" and result is plain_args[0]:
        result = result.clone()  # another device has other memory
    wrappers = {id(tensor.held): tensor for tensor in ours}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, DeviceTensor):
            return value
        known = wrappers.get(id(value))
        if known is None:
            return DeviceTensor(value) if ends_here else value
        if (known.shape, known.stride()) != (value.shape, value.stride()):  # by `squeeze_` and its like
            known.data = DeviceTensor(value)
        return known

    return _map(wrapped, result)


def _leaves(values: Any) -> Iterator[Any]:
    """The arguments of an operation, which may be in lists."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    """``function`` of each leaf, in the same lists and tuples."""
    if isinstance(value, list | tuple):
        return type(value)(_map(function, each) for each in value)
    return function(value)


def _plain(leaf: Any) -> Any:
    """The values of a tensor of the device; anything else as it is."""
    if isinstance(leaf, Tensor) and leaf.device.type == "meta":
        raise NotImplementedError("a tensor without values, made in a way that the pretend device does not know")
    return leaf.held if isinstance(leaf, DeviceTensor) else leaf


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _ends_on_device(name: str, args: Any, asked: Any, any_ours: bool) -> bool:
    """Whether the result of an operation lies on the device."""
    if name in ("aten::copy_", "aten::copy"):
        return isinstance(args[0], DeviceTensor)
    return _is_ours(asked) if asked is not None else any_ours


def _check_devices(name: str, args: Any, leaves: list[Any], ours: list[DeviceTensor]) -> None:
    """Raise as torch does where tensors of two devices meet."""
    if not ours or name in COPIES:
        return
    others = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.device.type == "cpu"]
    if name in INDEXING:
        if not isinstance(args[0], DeviceTensor):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        positions = {id(leaf) for leaf in _leaves(args[1])}
        others = [other for other in others if id(other) not in positions]
    written = isinstance(args[0], Tensor) and not isinstance(args[0], DeviceTensor) and name.endswith("_")
    # A number in a tensor of the CPU may take part, but not be overwritten.
    if wrong := [other for other in others if other.dim() > 0 or (written and other is args[0])]:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({name}: a tensor of shape {tuple(wrong[0].shape)} is on the CPU)"
        )


def _check_generator(func: Any, leaves: list[Any], ends_here: bool) -> None:
    for leaf in leaves:
        if isinstance(leaf, torch._C.Generator) and on_device(leaf) != ends_here:
            wanted, found = ("cuda", "cpu") if ends_here else ("cpu", "cuda")
            name, _ = _facts(func)
            raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}' ({name})")


def _waits(name: str, args: Any, kwargs: dict[str, Any], ends_here: bool) -> bool:
    """Whether the program waits for the device, or the device for the program's memory."""
    if name in WAITING:
        return True
    if name in COPIES:
        source = args[0] if name == "aten::_to_copy" else args[1]
        blocking = not (kwargs.get("non_blocking") or (name != "aten::_to_copy" and len(args) > 2 and args[2]))
        return blocking and isinstance(source, DeviceTensor) != ends_here
    if name == "aten::repeat_interleave":
        return kwargs.get("output_size") is None
    if name in INDEXING:
        indices = [leaf for leaf in _leaves(args[1]) if isinstance(leaf, Tensor)]
        masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        fills = "put" in name and isinstance(args[2], Tensor) and args[2].numel() == 1 and args[2].device.type == "cpu"
        copied = any(not isinstance(index, DeviceTensor) for index in indices)
        return (masks and not fills) or copied
    return False
