"""Server and client for processes that a superlink and supernodes start: `server` and `client`.

They build everything from text in the run's configuration, a `FederationSpec`. A client's images come from the data set
that its supernode names, or else from the coordinator's. Nothing is unpickled.
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

from rbmed_fl.checkpoint import ClientStore, ServerCheckpoint
from rbmed_fl.client import client_app, reply_or_error
from rbmed_fl.server import server_app
from rbmed_fl.task import TrainingTask
from robustbench_med import Learner, PartRef, Split, home, load_component, load_dataset
from robustbench_med.errors import DataError, RbmedError, UsageError

#: Files that the server writes for the coordinator: one line per local round, and the error of a failed run.
LOCAL_ROUNDS, FAILURE = "local-rounds.jsonl", "failure.json"


@dataclass(frozen=True)
class FederationSpec:
    """A federation as text.

    Attributes:
        strategy: name and parameters, as texts.
        model: kind and reference of what is trained: a ``model``, a ``detector`` or a ``purifier``.
        data: ``dataset``, ``partition``, ``unseen`` and ``data_root``, as `TrainJob.origin` has them.
        shape: classes, channels and side of the images.
        seed: of the training.
        device: where clients train, unless a supernode names another.
        threads: of torch, likewise.
        clients: names, in the order of their partition ids.
        identity: of checkpoints and client states.
        checkpoint: the server's folder.
        client_folder: parent of the clients' folders; "": each client's is below its own `home`.
        output: folder for `LOCAL_ROUNDS` and `FAILURE`.
        patience: see `rbmed_fl.flower_grid.ClientGrid`.
        min_clients: likewise.
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
    client_folder: str
    output: str
    patience: float
    min_clients: int

    def text(self) -> str:
        """For the run's configuration."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def of(cls, context: Context) -> FederationSpec:
        """From the run's configuration."""
        return cls(**json.loads(str(context.run_config["federation"])))

    def task(self, device: torch.device) -> TrainingTask:
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

        return TrainingTask.create(strategy, build, tuple(self.clients), self.seed, device)


server = ServerApp()
client = ClientApp()


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Resume after the round of the checkpoint that the coordinator wrote."""
    spec = FederationSpec.of(context)
    output = Path(spec.output)
    torch.set_num_threads(spec.threads)

    def on_local_round(name: str, number: int, figures: dict[str, float] | str) -> None:
        with (output / LOCAL_ROUNDS).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, number, figures]) + "\n")

    try:
        checkpoint = ServerCheckpoint(Path(spec.checkpoint), spec.identity)
        state = checkpoint.load()
        if state is None:
            raise UsageError(f"{checkpoint.path} is not on the machine of the superlink; start the training there")
        task = spec.task(torch.device("cpu"))
        server_app(task, state, checkpoint, on_local_round, spec.patience, spec.min_clients)(grid, context)
    except RbmedError as error:
        (output / FAILURE).write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
        raise


@client.train()
def train(message: Message, context: Context) -> Message:
    """One local round of this supernode's client."""
    spec, config = FederationSpec.of(context), context.node_config
    known = isinstance(index := config.get("partition-id"), int) and "client" not in config
    name = spec.clients[int(str(index))] if known else str(config.get("client", ""))
    return reply_or_error(
        name or "a supernode", lambda: _client(spec, name, config, context)(message, context), message
    )


def _client(spec: FederationSpec, name: str, config: Mapping[str, Any], context: Context) -> ClientApp:
    if name not in spec.clients:
        valid = ", ".join(f'client="{each}"' for each in spec.clients)
        raise UsageError(f"--node-config of this supernode names no client of this federation; valid: {valid}")
    index = spec.clients.index(name)
    context.node_config["partition-id"] = index
    torch.set_num_threads(int(config.get("threads", spec.threads)))
    split = _images(spec, name, config)
    if spec.client_folder:
        folder = Path(spec.client_folder) / str(index)
    else:
        facts = json.dumps([spec.identity, name], sort_keys=True)
        folder = home() / "federations" / hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
    task = spec.task(torch.device(str(config.get("device", spec.device))))
    may_miss = spec.min_clients < len(spec.clients) or task.strategy.params.faults != "none"
    store = ClientStore(folder, spec.identity, may_miss)
    return client_app(task, lambda _: (split.images, split.labels), lambda _: store)


def _images(spec: FederationSpec, name: str, config: Mapping[str, Any]) -> Split:
    """The client's own training images, from its supernode's data set or else the coordinator's."""
    root = str(config.get("data-root", spec.data.get("data_root", ""))) or None
    if "dataset" in config:
        dataset = load_dataset(str(config["dataset"]), data_root=root)
    else:
        unseen = spec.data.get("unseen", "")
        dataset = load_dataset(
            spec.data["dataset"],
            partition=spec.data.get("partition"),
            unseen_site=unseen.split(",") if unseen else (),
            data_root=root,
        )
    card = dataset.card()
    if (len(card.classes), card.channels, card.size) != tuple(spec.shape):
        raise DataError(
            f"data set {card.name!r} has (classes, channels, size) {(len(card.classes), card.channels, card.size)}, "
            f"but the model needs {tuple(spec.shape)}"
        )
    sites = dataset.split("train").by_site()
    site = str(config.get("site", name))
    if site not in sites:
        raise DataError(f"data set {card.name!r} has no training images of site {site!r}; sites: {', '.join(sites)}")
    return sites[site]
