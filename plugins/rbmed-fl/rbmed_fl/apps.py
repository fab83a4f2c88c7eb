"""Server and client for processes that a superlink and supernodes start: `server` and `client`.

What they build comes as text in the run's configuration, an `Order`; a client's images come from where its supernode
says, or else from where the coordinator has them. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from rbmed_fl.checkpoint import Checkpoint
from rbmed_fl.client import answer, client_app
from rbmed_fl.client_state import InFolder
from rbmed_fl.server import server_app
from rbmed_fl.task import Work
from robustbench_med import Learner, PartRef, Split, home, load_component, load_dataset
from robustbench_med.errors import DataError, RbmedError, UsageError

#: Files that the server writes for the coordinator: a line for every turn, and why the run failed.
TURNS, FAILURE = "turns.jsonl", "failure.json"


@dataclass(frozen=True)
class Order:
    """A federation as text.

    Attributes:
        strategy: name and parameters, as texts.
        model: kind and reference of what is trained: a ``model``, a ``detector`` or a ``purifier``.
        data: ``dataset``, ``partition``, ``unseen`` and ``data_root``, as `TrainJob.origin` has them.
        shape: classes, channels and side of the images.
        seed: of the training.
        device: where clients train, unless a supernode says otherwise.
        threads: of torch, likewise.
        clients: names, in the order of their partition ids.
        identity: of checkpoints and memories.
        checkpoint: folder of the server's.
        memories: folder of the clients' folders; "": each below its own `home`.
        outbox: folder for `TURNS` and `FAILURE`.
        patience: see `rbmed_fl.flower_grid.Attended`.
        enough: likewise.
    """

    strategy: tuple[str, dict[str, Any]]
    model: tuple[str, str]
    data: dict[str, str]
    shape: tuple[int, int, int]
    seed: int
    device: str
    threads: int
    clients: list[str]
    identity: dict[str, str]
    checkpoint: str
    memories: str
    outbox: str
    patience: float
    enough: int

    def text(self) -> str:
        """For the run's configuration."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def of(cls, context: Context) -> Order:
        """From the run's configuration."""
        return cls(**json.loads(str(context.run_config["order"])))

    def work(self, device: torch.device) -> Work:
        """What is trained, the same in every process."""
        strategy = load_component("strategy", PartRef(*self.strategy))
        kind, reference = self.model
        model = load_component(kind, reference)

        def build() -> Learner:
            classes, channels, size = self.shape
            if kind == "model":
                learner: Learner = model.build(classes, channels, size)
            else:
                model.build(channels, size)
                learner = model.learner(None)
            return learner

        return Work.of(strategy, build, tuple(self.clients), self.seed, device)


server = ServerApp()
client = ClientApp()


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Go on after the round of the checkpoint, which the coordinator has put there."""
    order = Order.of(context)
    outbox = Path(order.outbox)
    torch.set_num_threads(order.threads)

    def on_turn(name: str, number: int, figures: dict[str, float]) -> None:
        with (outbox / TURNS).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, number, figures]) + "\n")

    try:
        checkpoint = Checkpoint(Path(order.checkpoint), order.identity)
        standing = checkpoint.load()
        if standing is None:
            raise UsageError(f"{checkpoint.path} is not on the machine of the superlink; start the training there")
        work = order.work(torch.device("cpu"))
        server_app(work, standing, checkpoint, on_turn, order.patience, order.enough)(grid, context)
    except RbmedError as error:
        (outbox / FAILURE).write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
        raise


@client.train()
def train(message: Message, context: Context) -> Message:
    """One turn of the client that this supernode is."""
    order, config = Order.of(context), context.node_config
    known = isinstance(index := config.get("partition-id"), int) and "client" not in config
    name = order.clients[int(str(index))] if known else str(config.get("client", ""))
    return answer(name or "a supernode", lambda: _client(order, name, config, context)(message, context), message)


def _client(order: Order, name: str, config: Mapping[str, Any], context: Context) -> ClientApp:
    if name not in order.clients:
        valid = ", ".join(f'client="{each}"' for each in order.clients)
        raise UsageError(f"--node-config of this supernode names no client of this federation; valid: {valid}")
    index = order.clients.index(name)
    context.node_config["partition-id"] = index
    torch.set_num_threads(int(config.get("threads", order.threads)))
    split = _images(order, name, config)
    if order.memories:
        folder = Path(order.memories) / str(index)
    else:
        facts = json.dumps([order.identity, name], sort_keys=True)
        folder = home() / "federations" / hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
    memory = InFolder(folder, order.identity, gaps=order.enough < len(order.clients))
    work = order.work(torch.device(str(config.get("device", order.device))))
    return client_app(work, lambda _: (split.images, split.labels), lambda _: memory)


def _images(order: Order, name: str, config: Mapping[str, Any]) -> Split:
    """The client's own training images: of the data set that its supernode names, or else of the coordinator's."""
    root = str(config.get("data-root", order.data.get("data_root", ""))) or None
    if "dataset" in config:
        dataset = load_dataset(str(config["dataset"]), data_root=root)
    else:
        unseen = order.data.get("unseen", "")
        dataset = load_dataset(
            order.data["dataset"],
            partition=order.data.get("partition"),
            unseen_site=unseen.split(",") if unseen else (),
            data_root=root,
        )
    card = dataset.card()
    if (len(card.classes), card.channels, card.size) != tuple(order.shape):
        raise DataError(
            f"data set {card.name!r} has (classes, channels, size) {(len(card.classes), card.channels, card.size)}, "
            f"and the model is for {tuple(order.shape)}"
        )
    sites = dataset.split("train").by_site()
    site = str(config.get("site", name))
    if site not in sites:
        raise DataError(f"data set {card.name!r} has no training images of site {site!r}; sites: {', '.join(sites)}")
    return sites[site]
