"""Flower in one process: messages go straight from the ServerApp to the ClientApp, one client after another.

Flower's own engines need Ray or servers, and seconds to start. Everything that uses less public parts of Flower (task
identity, message ids, `Run`) is in this file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import safetensors.numpy
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common import NDArray
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from safetensors import safe_open

from rbmed_fl.client import client_app
from rbmed_fl.engines.config import InProcessEngine
from rbmed_fl.session import Session

RUN_ID = 1


def run(params: InProcessEngine, session: Session) -> None:
    """Run a session to its end, clients one after another."""
    task = session.task
    data = [(split.images.to(task.device), split.labels.to(task.device)) for split in session.clients.values()]
    app = client_app(task, data.__getitem__, session.stores.__getitem__)
    with acting_as(SUPERLINK_NODE_ID), TemporaryDirectory(prefix="rbmed-") as folder:
        grid = InProcessGrid(app, client_contexts(task.clients), Spool(Path(folder)))
        session.server()(grid, server_context())


class InProcessGrid(Grid):
    """Runs one ClientApp for all clients in this process.

    An exception in a client is raised here; Flower's engines would turn it into an error reply.

    Args:
        app: the clients' code.
        contexts: one per client (`client_contexts`).
        spool: where replies wait until the round is merged; None: in memory.
    """

    def __init__(self, app: ClientApp, contexts: Sequence[Context], spool: Spool | None = None) -> None:
        self._app = app
        self._spool = spool
        self._contexts = {context.node_id: context for context in contexts}
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(run_id=RUN_ID)

    def set_run(self, run: Run) -> None:
        """See `Grid`."""
        self._run = run

    @property
    def run(self) -> Run:
        """See `Grid`."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """See `Grid`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """See `Grid`."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run each message's client now; see `Grid`."""
        names = []
        for message in messages:
            reply = self._deliver(message)
            self._replies[message.metadata.message_id] = reply
            names.append(message.metadata.message_id)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid`."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """The replies of the clients, one after another; ``timeout`` is ignored."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        # There is no setter: Flower's own grids set it the same way.
        message.metadata.__dict__["_message_id"] = str(uuid4())
        # Flower's strategies put one RecordDict into all messages of a round; a network would make copies.
        message.content = copy.deepcopy(message.content)
        with acting_as(context.node_id):
            reply = self._app(message, context)
        if self._spool is not None:
            self._spool.store(context.node_id, reply)
        return reply


def client_contexts(names: Sequence[str]) -> list[Context]:
    """A Flower context per client: its partition id as Flower's engines set it, and an empty local state."""
    return [
        Context(
            run_id=RUN_ID,
            node_id=SUPERLINK_NODE_ID + 1 + index,
            node_config={"partition-id": index, "num-partitions": len(names), "client": name},
            state=RecordDict(),
            run_config={},
        )
        for index, name in enumerate(names)
    ]


def server_context() -> Context:
    """The context of the ServerApp."""
    return Context(run_id=RUN_ID, node_id=SUPERLINK_NODE_ID, node_config={}, state=RecordDict(), run_config={})


@contextmanager
def acting_as(node_id: int) -> Iterator[None]:
    """Messages created in this block come from ``node_id``.

    Flower keeps the identity in a class, one per process, and refuses to create a message without it.
    """
    fields = ("_run_id", "_node_id", "_task_id")
    before = [getattr(TaskIdentity, field) for field in fields]
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, node_id, node_id
    try:
        yield
    finally:
        for field, value in zip(fields, before, strict=True):
            setattr(TaskIdentity, field, value)


class StoredArray(Array):
    """An array that is read when it is asked for, and not kept.

    Flower copies arrays that are given to ``ArrayRecord(...)``; this one has to be assigned to an entry.

    Args:
        path: a safetensors file.
        name: of its entry.
        like: its type and shape.
    """

    def __init__(self, path: Path, name: str, like: Array) -> None:
        super().__init__(like.dtype, like.shape, like.stype, b"")
        self._path = path
        self._name = name

    def numpy(self) -> NDArray:
        """See `Array`."""
        with safe_open(self._path, framework="numpy") as file:
            value: NDArray = file.get_tensor(self._name)
        return value


class Spool:
    """Stores the arrays of replies in files of one folder, which each reply's next one replaces.

    Args:
        folder: exists as long as the replies are used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, client: int, reply: Message) -> None:
        """Replace the arrays of a reply by ones on disk; ``client`` is a number of its own for each client."""
        if reply.has_error():
            return
        for key, record in reply.content.array_records.items():
            if record:
                reply.content[key] = self._stored(self._folder / f"{client}-{key}.safetensors", record)

    def _stored(self, path: Path, record: Mapping[str, Array]) -> ArrayRecord:
        safetensors.numpy.save_file({name: array.numpy() for name, array in record.items()}, path)
        stored = ArrayRecord()
        for name, array in record.items():
            stored[name] = StoredArray(path, name, array)
        return stored
