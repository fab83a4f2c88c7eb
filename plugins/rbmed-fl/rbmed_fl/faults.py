"""Unreliable clients: at random, a client drops out, answers too late, or sends numbers that cannot be used.

What happens to a client in a round depends on the seed, its name and the round alone, so that a federation with faults
repeats exactly, under any engine. A client that is absent says so at once, in place of a reply, so that nobody waits.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from rbmed_fl.option import checked
from rbmed_fl.states import State
from robustbench_med import Field, Number, Params, read_choice, seed_of
from robustbench_med.errors import BadParameter

if TYPE_CHECKING:
    from flwr.app import Error, Message

Fault = Literal["dropout", "late", "nan", "inf", "huge"]
Probability = Annotated[Number, Field(ge=0, le=1)]

#: Code of the error that stands in place of an absent client's reply; Flower's own codes are below 100.
ABSENT = 9000

#: What the server notes of an absent client.
REASONS: dict[str, str] = {
    "dropout": "dropped out",
    "late": "answered after the round was closed",
    "unfit": "its update is not finite, so that the client did not send it",
}


class RandomFaults(Params):
    """Faults that any client may have in any round, at most one at a time."""

    dropout: Probability = Field(0.0, description="Probability that a client does not take part in a round.")
    late: Probability = Field(
        0.0, description="Probability that a client trains, but its reply comes after the round is closed and is lost."
    )
    nan: Probability = Field(0.0, description="Probability that a client sends NaN in place of its parameters.")
    inf: Probability = Field(0.0, description="Probability that a client sends infinity in place of its parameters.")
    huge: Probability = Field(0.0, description="Probability that a client sends its update times factor.")
    factor: Number = Field(1e6, gt=1, allow_inf_nan=False, description="Of huge.")
    names: tuple[str, ...] = Field((), description="Clients that have faults; default: all.")

    @pydantic.model_validator(mode="after")
    def _one_at_a_time(self) -> RandomFaults:
        if not 0 < (total := sum(self.probabilities.values())) <= 1 + 1e-9:
            raise ValueError(
                f"the probabilities of {', '.join(self.probabilities)} add up to {total:g}; valid: more than 0, up to 1"
            )
        return self

    @property
    def probabilities(self) -> dict[Fault, float]:
        """Of each fault."""
        return {"dropout": self.dropout, "late": self.late, "nan": self.nan, "inf": self.inf, "huge": self.huge}

    def draw(self, seed: int, client: str, number: int) -> Fault | None:
        """What happens to a client in round ``number``; None: nothing."""
        if self.names and client not in self.names:
            return None
        left = random.Random(seed_of(seed, "faults", client, number)).random()
        for fault, probability in self.probabilities.items():
            if left < probability:
                return fault
            left -= probability
        return None

    def spoil(self, fault: Fault | None, received: State, sent: State) -> State:
        """The parameters that are sent instead of ``sent``."""
        if fault == "huge":
            return {name: received[name] + self.factor * (value - received[name]) for name, value in sent.items()}
        if fault in ("nan", "inf"):
            return {name: value.new_full(value.shape, float(fault)) for name, value in sent.items()}
        return sent


def parse_faults(text: str, clients: Sequence[str] = ()) -> RandomFaults | None:
    """The faults of ``faults=TEXT``, such as ``random:dropout=0.2,nan=0.05``; None for ``none``.

    Raises:
        BadParameter: the name, a parameter, or (where ``clients`` are given) a client is not valid.
    """
    if text == "none":
        return None
    faults = read_choice("faults", text, {"random": RandomFaults}, ("none",))[1]
    if clients and (unknown := [name for name in faults.names if name not in clients]):
        raise BadParameter(f"faults={text!r}: no client is named {unknown[0]!r}; valid: {', '.join(clients)}")
    return faults


#: Text that `parse_faults` accepts; checked when the parameters are created.
FaultsText = Annotated[str, checked(parse_faults)]


def absence(message: Message, index: int, kind: str) -> Message:
    """What an absent client answers; ``kind`` is a key of `REASONS`, ``index`` the client's partition id."""
    from flwr.app import Error, Message

    return Message(Error(ABSENT, json.dumps([index, kind])), reply_to=message)


def read_absence(error: Error) -> tuple[int, str] | None:
    """The partition id and what to note, if the error is an `absence`."""
    if error.code != ABSENT:
        return None
    index, kind = json.loads(str(error.reason))
    return int(index), REASONS[kind]
