"""A vote over different purifiers."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.wrappers.wrapper import Wrapper, WrapperParams, vote


class Ensemble(Wrapper):
    """A vote over purifiers of different kinds: a perturbation may survive one and not the others."""

    class Params(WrapperParams):
        purifiers: tuple[str, ...] = Field(
            ("jpeg", "median", "total-variation"),
            min_length=2,
            description="The voters, such as [[jpeg],[ddim:steps=4,t_max=100]].",
        )

        @field_validator("purifiers")
        @classmethod
        def _one_form(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
            """Brackets exactly around the texts with a comma, so that a list joined by commas can be parsed again."""
            plain = [text[1:-1] if text.startswith("[") and text.endswith("]") else text for text in texts]
            return tuple(f"[{text}]" if "," in text else text for text in plain)

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.votes = sum(part.votes for part in self.inner())

    def references(self) -> list[str]:
        """The voters."""
        return [text.removeprefix("[").removesuffix("]") if "," in text else text for text in self.params.purifiers]

    def copies(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Each voter's copies, in the order of the voters; the first is that of `purify`."""
        streams = [rng[:], *(rng.fork(f"voter {at}") for at in range(1, len(self.parts)))]
        voters = zip(self.inner(), streams, strict=True)
        return self._graded(torch.cat([part.copies(x, strength, stream) for part, stream in voters], 1))

    def join(self, logits: Tensor) -> Tensor:
        """The vote over the voters' predictions, log-probabilities (N, K); see `rbmed_purifiers.wrappers.wrapper`."""
        each = torch.split(logits, [part.votes for part in self.inner()], 1)
        votes = [part.join(part_logits) for part, part_logits in zip(self.inner(), each, strict=True)]
        return vote(torch.stack(votes, 1), self.params.vote)
