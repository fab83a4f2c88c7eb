"""Checks of a strategy, which trains a small classifier over five clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.training import Classifier, Federated, Strategy, TrainJob
from robustbench_med.testing import other_device
from robustbench_med.testing.checking import Checks, Subject
from robustbench_med.testing.part_training import seeded
from robustbench_med.testing.pretend.device import PretendDevice
from robustbench_med.testing.side_effects import Unmodified, states_differ
from robustbench_med.testing.toys import toy_images

check = Checks()
SIZE, IMAGES = 8, 12


class Small(Classifier):
    """Features to share and a personal head."""

    personal = ("head.",)
    heads = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Linear(SIZE * SIZE, 6)
        self.norm = torch.nn.BatchNorm1d(6)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2)."""
        logits: Tensor = self.head(self.embed(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, 6)."""
        found: Tensor = self.norm(self.features((x - 0.5).flatten(1))).relu()
        return found


@dataclass(frozen=True)
class Training:
    """A strategy, its clients, and the result."""

    strategy: Strategy
    clients: dict[str, Split]
    federated: Federated

    def run(self, seed: int = 0, device: str = "cpu") -> Federated:
        """Train once more."""
        job = TrainJob(seed=seed, device=torch.device(device))
        federated: Federated = seeded(lambda: self.strategy.train(Small, self.clients, job))
        return federated


def _clients() -> dict[str, Split]:
    clients = {}
    for at, name in enumerate(("north", "east", "south", "west", "centre")):
        x, _ = toy_images(IMAGES + at, size=SIZE)
        labels = torch.arange(len(x)) % 2
        x = (x / 2 + labels.view(-1, 1, 1, 1) / 4).clamp(0, 1)
        clients[name] = Split(x, labels, tuple(f"{name}-{i}" for i in range(len(x))), (name,) * len(x))
    return clients


def _trained(subject: Subject) -> Training:
    def make() -> Training:
        strategy: Strategy = subject.build()
        clients = _clients()
        draft = Training(strategy, clients, Federated({}))
        return Training(strategy, clients, draft.run())

    return subject.once("trained", make)


@check("trains", "It returns finite states that differ from the initial ones")
def trains(subject: Subject) -> Iterator[str]:
    """`shared`, and `personal` by client."""
    made = _trained(subject)
    federated = made.federated
    if not isinstance(federated, Federated):
        yield f"train returns a {type(federated).__name__}, not a robustbench_med.Federated"
        return
    for name, state in {"shared": federated.shared, **federated.personal}.items():
        if wild := [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
            yield f"{name}: not finite: {', '.join(wild[:3])}"
    fresh = dict(seeded(lambda: made.strategy.classifier(Small)).named_parameters())
    everyone = [federated.shared, *federated.personal.values()]
    if all(torch.equal(state[name], fresh[name]) for state in everyone for name in state.keys() & fresh.keys()):
        yield "nothing was learned: all weights are the initial ones"


@check("state-fits", "Every client's state fits the classifier that is deployed")
def state_fits(subject: Subject) -> Iterator[str]:
    """`shared`, with the entries of `personal`."""
    made = _trained(subject)
    federated = made.federated
    deployed = seeded(lambda: made.strategy.classifier(Small))
    if unknown := sorted(set(federated.personal) - set(made.clients)):
        yield f"personal state of clients that do not exist: {', '.join(unknown)}"
    for client in made.clients:
        state = federated.shared | federated.personal.get(client, {})
        try:
            deployed.load_state_dict(state)
        except RuntimeError as error:
            yield f"{client}: {' '.join(str(error).split())[:200]}"


@check("repeatable", "The same seed gives the same weights")
def repeatable(subject: Subject) -> Iterator[str]:
    """The result depends on torch's global generator, which the harness seeds, and on nothing else."""
    made = _trained(subject)
    again = made.run()
    if changed := states_differ(made.federated.shared, again.shared):
        yield f"gives other weights when run again with the same seed: {', '.join(changed[:3])}"
    for client, state in made.federated.personal.items():
        if changed := states_differ(state, again.personal.get(client, {})):
            yield f"{client}: gives other weights when run again with the same seed: {', '.join(changed[:3])}"


@check("inputs-unmodified", "The clients' images and labels stay as they were")
def inputs_unmodified(subject: Subject) -> Iterator[str]:
    """They are used again for the next part."""
    made = _trained(subject)
    tensors = {f"images of {name}": split.images for name, split in made.clients.items()}
    tensors |= {f"labels of {name}": split.labels for name, split in made.clients.items()}
    watched = Unmodified(**tensors)
    made.run()
    yield from watched.faults()


@check("history", "Its history is a list of dicts that fit into JSON")
def history(subject: Subject) -> Iterator[str]:
    """The manifest stores it."""
    for entry in _trained(subject).federated.history:
        if not isinstance(entry, dict):
            yield f"an entry of the history is a {type(entry).__name__}, not a dict"
            return
        try:
            json.dumps(entry, allow_nan=False)
        except (TypeError, ValueError) as error:
            yield f"an entry of the history is not JSON: {error}"
            return


@check(other_device.NAME, other_device.ABOUT)
def on_other_device(subject: Subject) -> Iterator[str]:
    """A training, which gives states that are finite."""
    made = _trained(subject)
    with PretendDevice():
        found = made.run(device=str(other_device.DEVICE))
        for name, state in {"shared": found.shared, **found.personal}.items():
            weights = {key: value.cpu() for key, value in state.items() if value.is_floating_point()}
            if wild := [key for key, value in weights.items() if not value.isfinite().all()]:
                yield f"{name}: not finite: {', '.join(wild[:3])}"
