"""Random generators of the pretend device."""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch

DEVICE = torch.device("cuda", 0)


class AnyGenerator(torch._C.Generator):
    """A random generator of the CPU or of the pretend device; it stands in for `torch.Generator`."""

    _known: ClassVar[WeakValueDictionary[int, AnyGenerator]] = WeakValueDictionary()
    _device: torch.device

    @staticmethod
    def __new__(cls, device: Any = "cpu") -> AnyGenerator:
        """As `torch.Generator`."""
        made: AnyGenerator = super().__new__(cls)
        made._device = torch.device(device)
        cls._known[_identity(made)] = made  # an operation sees another Python object for it
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it draws."""
        return DEVICE if self._device.type == "cuda" else self._device

    def clone_state(self) -> AnyGenerator:
        """As `torch.Generator.clone_state`."""
        made = AnyGenerator(self._device)
        made.set_state(self.get_state())
        return made


def on_device(generator: torch._C.Generator) -> bool:
    """Whether a generator draws on the pretend device."""
    known = AnyGenerator._known.get(_identity(generator))
    return known is not None and known.device.type == "cuda"


def _identity(generator: torch._C.Generator) -> int:
    """The same for every Python object of one generator."""
    found: int = generator._cdata  # type: ignore[attr-defined]
    return found
