"""The context in which the pretend device exists."""

from __future__ import annotations

import importlib
from collections import Counter
from contextlib import ExitStack
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from robustbench_med.testing.pretend.cuda import stand_ins
from robustbench_med.testing.pretend.generator import DEVICE
from robustbench_med.testing.pretend.tensor import INNER, DeviceTensor, Log, run


class PretendDevice:
    """A CUDA device without a GPU, for tests on machines that have none.

    Inside the context ``torch.device("cuda")`` exists. Its tensors compute on the CPU, to the same values, but behave
    as on a GPU: an operation on tensors of two devices raises, so does a CPU generator for a tensor of the device, and
    so does NumPy. It counts where a program waits for the device, which on a GPU costs more than most operations, and
    the operations, each of which is at least one kernel::

        with PretendDevice() as device:
            model = Net().to(device.device)
            logits = model(images.to(device.device))
            assert device.syncs.total() <= 1, device.syncs

    Memory, streams and the device's random numbers are pretended only as far as code can ask for them: there is always
    memory, and a stream is the program itself. Autocast does nothing on the device. Tensors are of the class
    `DeviceTensor`; code written in C++ that reads memory directly does not work.

    Attributes:
        device: ``torch.device("cuda:0")``.
        syncs: how often the program waited, by source line.
        launches: operations that compute something, by name.
    """

    device = DEVICE

    def __init__(self) -> None:
        self._log = Log()
        self._stack = ExitStack()

    @property
    def syncs(self) -> Counter[str]:
        """How often the program waited for the device, by ``folder/file.py:line``."""
        return self._log.syncs

    @property
    def launches(self) -> Counter[str]:
        """Operations that compute something, by name."""
        return self._log.launches

    def reset(self) -> None:
        """Count anew."""
        self._log.syncs.clear()
        self._log.launches.clear()

    def __enter__(self) -> Self:
        # Optimizers import it, and it would take what stands in for torch's own functions to be those.
        importlib.import_module("torch._dynamo")
        with ExitStack() as stack:
            for owner, name, value in stand_ins():
                stack.enter_context(mock.patch.object(owner, name, value))
            stack.enter_context(_Operations(self._log))
            stack.enter_context(_Calls())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation below autograd."""

    def __init__(self, log: Log) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log = log

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: else torch imports its compiler, which takes seconds, to leave this class out of what it compiles."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {}, self.log)


class _Calls(TorchFunctionMode):
    """Every call of torch from Python: those that name the device are made for the one that C++ knows."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if func is torch.device:
            return func(*args, **kwargs)
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and isinstance(first, DeviceTensor):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first."
            )
        if func is torch.Tensor.data.__set__:  # type: ignore[attr-defined]
            return _set_data(func, *args)
        if func is torch.Tensor.tolist and isinstance(first, DeviceTensor):
            return first.detach().cpu().tolist()
        if func is torch.Tensor.pin_memory:
            return first
        if func is torch.Tensor.cuda:
            return args[0].to(INNER, non_blocking=kwargs.get("non_blocking", False))
        if func is torch.Tensor.new_tensor:
            place = kwargs.pop("device", args[0].device)
            place = INNER if _names_ours(place) else place
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(place)
        if func in (torch.tensor, torch.as_tensor) and _names_ours(kwargs.get("device")):
            # torch has no way to make a tensor of the inner device from values.
            grad = kwargs.pop("requires_grad", False)
            del kwargs["device"]
            if isinstance(first, DeviceTensor):
                return func(*args, **kwargs)
            return func(*args, **kwargs).to(INNER).requires_grad_(grad)
        if _names_ours(kwargs.get("device")):
            kwargs["device"] = INNER
        return func(*(INNER if _names_ours(arg) else arg for arg in args), **kwargs)


def _names_ours(device: Any) -> bool:
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    return isinstance(device, torch.device) and device.type == "cuda"


def _set_data(func: Any, tensor: Tensor, value: Tensor) -> Any:
    result = func(tensor, value)
    if isinstance(tensor, DeviceTensor) and isinstance(value, DeviceTensor):
        tensor.held = value.held
    return result
