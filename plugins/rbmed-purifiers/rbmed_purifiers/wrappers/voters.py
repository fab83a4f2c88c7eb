"""A vote over several copies by one purifier, each with its own noise, or over different purifiers."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.wrappers.wrapper import Wrapper, WrapperParams, vote
from robustbench_med.errors import BadParameter


class Majority(Wrapper):
    """A vote over draws of a stochastic purifier (DiffBreak, Kassis et al. 2024, 2411.16598).

    With single draws, an attacker can query until a draw fails; a vote gives nearly the same prediction every time.
    """

    class Params(WrapperParams):
        purifier: str = Field("ddim", description="The purifier: name or name:key=value,..., in square brackets.")
        copies: int = Field(
            8, ge=1, json_schema_extra={"runtime": True}, description="Purified copies of each image that are voted on."
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        p = self.params
        if p.copies > 1 and not self.stochastic:
            raise BadParameter(
                f"purifier majority: {p.purifier!r} is deterministic, so copies={p.copies} would all be the same; "
                "use a stochastic purifier, or copies=1"
            )
        self.votes = p.copies * self.inner()[0].votes

    def references(self) -> list[str]:
        """The one purifier."""
        return [self.params.purifier]

    def copies(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Copies of each image with independent noise; the first is that of `purify`."""
        n = self.params.copies
        repeated = x.repeat_interleave(n, 0), strength.repeat_interleave(n), rng.repeat(n)
        return self._graded(self.inner()[0].copies(*repeated).reshape(len(x), self.votes, *x.shape[1:]))

    def join(self, logits: Tensor) -> Tensor:
        """The vote over the copies, log-probabilities (N, K); see `rbmed_purifiers.wrappers.wrapper`."""
        part, (n, _, classes) = self.inner()[0], logits.shape
        votes = part.join(logits.reshape(-1, part.votes, classes))
        return vote(votes.view(n, -1, classes), self.params.vote)


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
