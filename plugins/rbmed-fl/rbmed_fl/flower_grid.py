"""A Flower Grid that addresses clients instead of nodes and raises an error if a client fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from rbmed_fl.faults import read_absence
from robustbench_med.errors import HarnessError

#: What an aggregator makes of the replies of a round: the model and figures.
Merged = tuple[ArrayRecord | None, MetricRecord | None]
#: Seconds between two checks for replies.
PAUSE = 0.1
_SEND_AGAIN = (
    ErrorCode.CLIENT_APP_CRASHED,
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,  # killed while sending the reply
)


class ClientGrid(Grid):
    """Sends messages through another grid and waits for one reply per client.

    A round is over when every client has replied, through any node. Flower gives a restarted node a new id and keeps
    the old one for a minute, so the message of a round, which is the same for all clients, goes to every node that is
    connected or connects during the round. Flower's strategies see one node for each client.

    Replies come back in the order of the clients' partition ids, since floating-point averages depend on it. A reply
    that reports an error is raised here; Flower's strategies would average the others without a message. A client that
    says that it is absent (`rbmed_fl.faults`) is not waited for.

    Args:
        grid: any of Flower's grids.
        clients: names, in the order of their partition ids.
        on_reply: called with the content of each reply as it arrives.
        on_absence: called with the partition id of a client that says that it is absent, and why.
        patience: seconds to wait for the next reply before a client counts as missing; None: for ever.
        min_clients: number of replies that are enough for a round; None: all clients.
    """

    def __init__(
        self,
        grid: Grid,
        clients: Sequence[str],
        on_reply: Callable[[RecordDict], None],
        on_absence: Callable[[int, str], None],
        patience: float | None = None,
        min_clients: int | None = None,
    ) -> None:
        self._grid = grid
        self._clients = clients
        self._on_reply = on_reply
        self._on_absence = on_absence
        self._patience = float("inf") if patience is None else patience
        self._min_clients = len(clients) if min_clients is None else min_clients

    def set_run(self, run: Run) -> None:
        """See `Grid`."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """See `Grid`."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """See `Grid`."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """One for each client, whether its node is connected or not."""
        return range(1, len(self._clients) + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid`."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid`."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send every client the message; return the replies in the order of partition ids.

        Args:
            messages: all with the same content; may be empty.
            timeout: ignored; see ``patience``.

        Raises:
            HarnessError: a client failed, or too many are missing.
        """
        message = next(iter(messages), None)
        if message is None:  # Flower also requests an evaluation, which is not used.
            return []
        contacted: set[int] = set()
        waiting: set[str] = set()
        replies: dict[int, Message | None] = {}  # None: absent
        last = time.monotonic()
        while len(replies) < len(self._clients):
            new: list[int | None] = [node for node in self._grid.get_node_ids() if node not in contacted]
            for node in new or [None]:  # without a new node, check for replies anyway
                if node is not None:
                    contacted.add(node)
                    waiting.update(self._grid.push_messages([_to(node, message)]))
                for reply in self._grid.pull_messages(waiting) if waiting else ():
                    waiting.discard(reply.metadata.reply_to_message_id)
                    if reply.has_error():
                        if (absent := read_absence(reply.error)) is None:
                            self._check_error(reply, contacted)
                        elif absent[0] not in replies:
                            replies[absent[0]] = None
                            self._on_absence(*absent)
                            last = time.monotonic()
                    elif partition_id(reply) not in replies:
                        replies[partition_id(reply)] = reply
                        self._on_reply(reply.content)
                        last = time.monotonic()
            if time.monotonic() - last > self._patience:
                self._check_missing([name for index, name in enumerate(self._clients) if index not in replies])
                break
            if len(replies) < len(self._clients):
                time.sleep(PAUSE)
        return [answer for index in sorted(replies) if (answer := replies[index]) is not None]

    def _check_error(self, reply: Message, contacted: set[int]) -> None:
        """Send again if a message or the client's process was lost; ignore a lost node; raise any other error."""
        node, error = reply.metadata.src_node_id, reply.error
        if error.code in _SEND_AGAIN:
            contacted.discard(node)
        elif error.code != ErrorCode.NODE_UNAVAILABLE:
            raise client_failed(error)

    def _check_missing(self, names: list[str]) -> None:
        if len(self._clients) - len(names) < self._min_clients:
            raise HarnessError(
                f"no reply from {', '.join(names)} within {self._patience:g} s (patience); "
                f"run the training again to resume after the last finished round"
            )


def client_failed(error: Error) -> HarnessError:
    """What is raised for a client's error that is no absence."""
    return HarnessError(f"a client of the federation failed: {' '.join(str(error.reason).split())}")


def _to(node: int, message: Message) -> Message:
    return Message(message.content, node, message.metadata.message_type, group_id=message.metadata.group_id)


def partition_id(reply: Message) -> int:
    """The partition id of the client that sent this reply."""
    value = reply.content.metric_records["metrics"]["partition-id"]
    assert isinstance(value, int)
    return value


@contextmanager
def quiet(level: int = logging.ERROR) -> Iterator[None]:
    """Within this block Flower logs only messages of ``level`` or above; by default it logs every round to stderr."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
