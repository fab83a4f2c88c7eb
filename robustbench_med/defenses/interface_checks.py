"""Whether the parts of a deployed system do what their interfaces promise, seen while it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robustbench_med.errors import HarnessError
from robustbench_med.interfaces.plural import plural
from robustbench_med.plugins.calls import named

if TYPE_CHECKING:
    from robustbench_med.defenses.pipeline import Pipeline, Treated

#: How far a purified value may lie outside [0, 1], for rounding.
ROUNDING = 1e-4
#: Of a part that makes wrong numbers of all that is computed from its input afterwards.
IN_PLACE = "changes its images in place; valid: a new tensor, as x = x * 0.5 makes it and x.mul_(0.5) does not"


def checked_logits(logits: Any, classifier: nn.Module, images: int) -> Tensor:
    """The logits of so many images, as they are.

    Raises:
        HarnessError: they are none.
    """
    if isinstance(logits, Tensor) and logits.dim() == 2 and len(logits) == images and logits.is_floating_point():
        return logits
    told = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    raise HarnessError(
        f"{named('classifier', classifier)} returned {told} for {plural(images, 'image')}; "
        "valid: logits, floating-point "
        f"({images}, classes)"
    )


def altered(now: Tensor, given: Tensor) -> Tensor:
    """Whether images are others than those that were given, bool (); what is not a number equals itself here."""
    return ((now != given) & ~given.isnan()).any()


class Conduct:
    """Collects on the device what the parts did to some images, and reads it back once, when it is asked.

    Args:
        pipeline: the deployed system.
        given: the images, (N, C, H, W), of which its parts got a copy.
    """

    def __init__(self, pipeline: Pipeline, given: Tensor) -> None:
        self.pipeline, self.given = pipeline, given
        self._ranges: list[Tensor] = []
        self._changed: dict[str, list[Tensor]] = {"detector": [], "classifier": []}

    def treated(self, treated: Treated) -> None:
        """See what detector and purifier did."""
        if self.pipeline.detector is not None:
            self._changed["detector"].append(altered(treated.images, self.given))
        if len(treated.rows) and self.pipeline.purifier is not None and self.pipeline.purifier.bounded:
            # What is not finite counts as a wrong answer (`NOT_FINITE`) and is no range.
            known = treated.copies.nan_to_num(0.5, 0.5, 0.5)
            self._ranges.append(torch.stack(known.aminmax()))

    def answered(self, x: Tensor) -> None:
        """See what the classifier did to the images ``x`` that it was given."""
        self._changed["classifier"].append(altered(x, self.given))

    def check(self) -> None:
        """Raise `HarnessError` for what was seen."""
        seen = {kind: torch.stack(flags).any().float() for kind, flags in self._changed.items() if flags}
        ranges = [bound.float() for bound in torch.stack(self._ranges).aminmax()] if self._ranges else []
        told = torch.stack([*seen.values(), *ranges]).tolist() if seen else []
        for kind, changed in zip(seen, told, strict=False):
            if changed:
                raise HarnessError(f"{named(kind, getattr(self.pipeline, kind))} {IN_PLACE}")
        low, high = told[len(seen) :] or (0.0, 1.0)
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise HarnessError(
                f"{named('purifier', self.pipeline.purifier)} returned values from {low:.4g} to {high:.4g}; valid: "
                "0 to 1, so clamp them, or say bounded = False in its class"
            )
