"""A Grid around any of Flower's: it asks clients, not nodes, and a client's failure is an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from robustbench_med.errors import HarnessError

#: Seconds between two looks for replies.
PAUSE = 0.1
_ASK_AGAIN = (
    ErrorCode.CLIENT_APP_CRASHED,
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,  # killed while it sent the reply
)


class Attended(Grid):
    """Passes messages on to another grid and attends to the replies.

    A round is over when every client has replied, through whichever node. Flower gives a node that comes back a new id
    and keeps the old one for a minute, so the message of a round, which is the same for all clients, goes to every node
    that is there or turns up while the round runs. Towards Flower's strategies there is one node for each client.

    Replies come back in the order of the clients' partition ids, since floating-point averages depend on it. A reply
    that reports an error is raised here, where Flower's strategies would average the others without a word.

    Args:
        grid: any of Flower's.
        clients: names, in the order of their partition ids.
        on_reply: called with the content of each reply as it arrives.
        patience: seconds to wait for the next reply before a client is missing; None: for ever.
        enough: clients that must reply for a round to go on without the missing; None: all.
    """

    def __init__(
        self,
        grid: Grid,
        clients: Sequence[str],
        on_reply: Callable[[RecordDict], None],
        patience: float | None = None,
        enough: int | None = None,
    ) -> None:
        self._grid = grid
        self._clients = clients
        self._on_reply = on_reply
        self._patience = float("inf") if patience is None else patience
        self._enough = len(clients) if enough is None else enough

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
        """One for each client, whether its node is there or not."""
        return range(1, len(self._clients) + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid`."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid`."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Ask every client once; return the replies in the order of partition ids.

        Args:
            messages: all with the same content, or none.
            timeout: has no meaning here; see ``patience``.

        Raises:
            HarnessError: a client failed, or too many are missing.
        """
        question = next(iter(messages), None)
        if question is None:  # Flower also asks for an evaluation, which nobody does.
            return []
        asked: set[int] = set()
        waiting: set[str] = set()
        replies: dict[int, Message] = {}
        last = time.monotonic()
        while len(replies) < len(self._clients):
            fresh: list[int | None] = [node for node in self._grid.get_node_ids() if node not in asked]
            for node in fresh or [None]:  # without a fresh one, look for replies all the same
                if node is not None:
                    asked.add(node)
                    waiting.update(self._grid.push_messages([_to(node, question)]))
                for reply in self._grid.pull_messages(waiting) if waiting else ():
                    waiting.discard(reply.metadata.reply_to_message_id)
                    if reply.has_error():
                        self._lost(reply, asked)
                    elif partition_id(reply) not in replies:
                        replies[partition_id(reply)] = reply
                        self._on_reply(reply.content)
                        last = time.monotonic()
            if time.monotonic() - last > self._patience:
                self._missing([name for index, name in enumerate(self._clients) if index not in replies])
                break
            if len(replies) < len(self._clients):
                time.sleep(PAUSE)
        return [replies[index] for index in sorted(replies)]

    def _lost(self, reply: Message, asked: set[int]) -> None:
        """A node is gone, or lost a message or its client's process and is asked again; anything else is raised."""
        node, error = reply.metadata.src_node_id, reply.error
        if error.code in _ASK_AGAIN:
            asked.discard(node)
        elif error.code != ErrorCode.NODE_UNAVAILABLE:
            reason = " ".join(str(error.reason).split())
            raise HarnessError(f"a client of the federation failed: {reason}")

    def _missing(self, names: list[str]) -> None:
        if len(self._clients) - len(names) < self._enough:
            raise HarnessError(
                f"no reply from {', '.join(names)} within {self._patience:g} s (patience); "
                f"call again to go on after the last finished round"
            )


def _to(node: int, message: Message) -> Message:
    return Message(message.content, node, message.metadata.message_type, group_id=message.metadata.group_id)


def partition_id(reply: Message) -> int:
    """Which client sent this reply."""
    value = reply.content.metric_records["metrics"]["partition-id"]
    assert isinstance(value, int)
    return value


@contextmanager
def quiet(level: int = logging.ERROR) -> Iterator[None]:
    """Flower logs every round to stderr at level INFO; within this block only what is as bad as ``level`` shows."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
