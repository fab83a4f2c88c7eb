"""What a module gave to the sigmoid or softmax that ends it: logits that do not saturate where probabilities do.

From a logit of 17 on, a sigmoid in float32 is exactly 1 and has no slope. An attack on the probabilities would find no
gradient, and no score that changes, though the module can be attacked as well as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SIGMOIDS: set[Callable[..., Any]] = {torch.sigmoid, Tensor.sigmoid, torch.special.expit, F.sigmoid}
_SOFTMAXES: set[Callable[..., Any]] = {torch.softmax, Tensor.softmax, F.softmax, torch.special.softmax}


class Squashing(TorchFunctionMode):
    """Remembers what the latest sigmoid and the latest softmax over classes were given, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        # What was made, a copy of it as it was then, and what it was made of.
        self._sigmoid: tuple[Tensor, Tensor, Tensor] | None = None
        self._softmax: tuple[Tensor, Tensor, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function's result, with a note of what it was given."""
        given = kwargs or {}
        made = func(*args, **given)
        if func in _SIGMOIDS and args:
            self._sigmoid = made, made.detach().clone(), args[0].clone()
        elif func in _SOFTMAXES and args and (args[1:2] or (given.get("dim"),))[0] in (1, -1) and args[0].dim() == 2:
            self._softmax = made, made.detach().clone(), args[0].clone()
        return made

    def logits(self, values: Any, softmax: bool) -> tuple[Tensor, Tensor] | None:
        """What ``values`` were made of by a softmax, or by a sigmoid, in their shape; None where they were not.

        Also, in the same shape, which of them are still what was made: a module may change them in place.
        """
        found = self._softmax if softmax else self._sigmoid
        if found is None or not isinstance(values, Tensor):
            return None
        made, copy, given = found
        same = made.numel() == values.numel() and made.data_ptr() == values.data_ptr() and made.dtype == values.dtype
        # A view keeps the order of what it shows only where both are dense.
        if not (same and made.is_contiguous() and values.is_contiguous()):
            return None
        return given.reshape(values.shape), values.detach() == copy.reshape(values.shape)
