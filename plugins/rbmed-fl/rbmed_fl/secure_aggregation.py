"""Secure aggregation: the server learns the sum of the updates and none of them.

The protocol is Flower's SecAgg+ (Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead").
Clients agree on keys, share them among each other, send their updates, rounded to integers, under masks that cancel in
the sum, and reveal the shares that take away the masks of clients that have dropped out meanwhile. Flower's protocol
uses messages of its older interface; this file translates.

Sent is the weighted update, not the model, so that few entries are near the end of the range. The server cannot tell
whose update is not usable: a client checks its own, and entries beyond the range are cut off.

It shows what the protocol costs; it is no protection against a server that attacks it: Flower 1.41 folds the seed of a
mask to 32 bits, which can be searched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from rbmed_fl.faults import absence
from rbmed_fl.option import checked
from rbmed_fl.privacy import numpy_randomness
from robustbench_med import Field, Number, Params, read_choice, seed_of
from robustbench_med.errors import UsageError

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Context, Message
    from flwr.clientapp.typing import ClientAppCallable

    from rbmed_fl.task import TrainingTask

#: Integers into which the range is divided; sums are below 2**32, which is enough for 255 clients.
LEVELS = 2**24
FEWEST_CLIENTS, MOST_CLIENTS = 3, 255


class SecAggPlus(Params):
    """Flower's SecAgg+ among all clients."""

    threshold: Number = Field(
        0.6,
        gt=0.5,
        le=1,
        description="Share of the clients that must be there to the end of a round; with fewer the training ends.",
    )
    clipping: Number = Field(
        8.0, gt=0, allow_inf_nan=False, description="Entries of an update are cut off here; the larger, the coarser."
    )

    def check(self, clients: int) -> None:
        """Raise `UsageError` if there are too few or too many clients."""
        if not FEWEST_CLIENTS <= clients <= MOST_CLIENTS:
            raise UsageError(
                f"secure_aggregation needs {FEWEST_CLIENTS} to {MOST_CLIENTS} clients, and there are {clients}; from "
                f"the mean of two, each knows the other's update"
            )

    def needed(self, clients: int) -> int:
        """Number of clients that must be there to the end of a round."""
        return max(round(self.threshold * clients), 2)


def parse_secure_aggregation(text: str) -> SecAggPlus | None:
    """The protocol of ``secure_aggregation=TEXT``, such as ``secaggplus:threshold=0.7``; None for ``none``.

    Raises:
        BadParameter: the name or a parameter is not valid.
    """
    if text == "none":
        return None
    return read_choice("secure_aggregation", text, {"secaggplus": SecAggPlus}, ("none",))[1]


#: Text that `parse_secure_aggregation` accepts; checked when the parameters are created.
SecureAggregationText = Annotated[str, checked(parse_secure_aggregation)]


class _AbsentError(Exception):
    def __init__(self, reply: Message) -> None:
        self.reply = reply


def secure_mod(task: TrainingTask, secure: SecAggPlus, equal: bool) -> Any:
    """A Flower mod: the client's side of the protocol.

    Args:
        task: what is trained.
        secure: of the strategy.
        equal: every client has the same weight; otherwise its number of images.
    """
    from flwr.client.mod.secure_aggregation.secaggplus_mod import secaggplus_mod
    from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        index = int(str(context.node_config["partition-id"]))

        def train(message: Message, context: Context) -> Message:
            del message.content.config_records[RECORD_KEY_CONFIGS]  # of the protocol, not of the training
            received, config = message.content.array_records["arrays"], message.content.config_records["config"]
            reply = call_next(message, context)
            if reply.has_error():
                raise _AbsentError(reply)
            number = int(str(config["rounds-before"])) + int(str(config["server-round"]))
            updates = _updates(received, reply.content.array_records["arrays"])
            if not all(np.isfinite(update).all() for update in updates):
                raise _AbsentError(absence(message, index, "unfit"))
            np.random.seed(seed_of(task.seed, "rounding", task.clients[index], number) % 2**32)  # noqa: NPY002
            return _legacy(reply, updates, secure, equal)

        try:
            with numpy_randomness(0):
                return secaggplus_mod(message, context, train)
        except _AbsentError as error:
            return error.reply

    return mod


def _updates(received: ArrayRecord, sent: ArrayRecord) -> list[np.ndarray[Any, Any]]:
    """What was sent minus what was received, in the order of the names."""
    with np.errstate(invalid="ignore", over="ignore"):
        return [sent[name].numpy() - received[name].numpy() for name in sorted(received)]


def _legacy(reply: Message, updates: list[np.ndarray[Any, Any]], secure: SecAggPlus, equal: bool) -> Message:
    """The reply as Flower's older interface has it, with the figures beside it."""
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
    from flwr.compat.common.recorddict_compat import fitres_to_recorddict

    metrics = reply.content.metric_records["metrics"]
    metrics["cut-off"] = int(sum((np.abs(update) > secure.clipping).sum() for update in updates))
    metrics["bytes-sent"] = 8 * sum(update.size for update in updates)  # masked, they are integers of 64 bits
    weight = 1 if equal else int(str(metrics["num-examples"]))
    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(updates), weight, {})
    content = fitres_to_recorddict(result, keep_input=False)
    content.metric_records["metrics"] = metrics
    reply.content = content
    return reply
