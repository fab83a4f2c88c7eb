"""Faults and privacy between processes that talk over TLS: the same weights and notes as in one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robustbench_med import Federated, Learner, Split, TrainJob, load_component, load_dataset

DATA = "brainsim:size=32,train_patients=3,calibration_patients=1,test_patients=1"
PARTITION = "iid:clients=3"
MODEL = "resnet:width=8"
#: With it the first client is late and then drops out, the second sends NaN and then a huge update.
SEED = 101
FAULTS = "random:dropout=0.2,late=0.2,nan=0.2,huge=0.2"
#: Figures that two runs do not share.
TIMES = ("seconds", "bytes-sent", "bytes-received")


def build() -> Learner:
    """A fresh classifier as the harness builds it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        made: Learner = load_component("model", MODEL).build(2, 1, 32)
        return made


def train(clients: dict[str, Split], engine: str, privacy: str) -> Federated:
    text = f"fedavg:rounds=2,local_epochs=1,batch_size=16,faults=[{FAULTS}],privacy=[{privacy}],engine=[{engine}]"
    origin = {"dataset": DATA, "partition": PARTITION, "model": MODEL, "strategy": text}
    result: Federated = load_component("strategy", text).train(build, clients, TrainJob(seed=SEED, origin=origin))
    return result


def notes(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history without times."""
    return [
        {key: value for key, value in entry.items() if key not in ("seconds", "clients")}
        | {
            "clients": {
                client: {name: value for name, value in figures.items() if name not in TIMES}
                for client, figures in entry["clients"].items()
            }
        }
        for entry in history
    ]


@pytest.mark.slow
@pytest.mark.parametrize("privacy", ["none", "dp:noise_multiplier=0.1,clipping=1"])
def test_faults_are_those_of_one_process(place, assert_ended, privacy):
    clients = load_dataset(DATA, partition=PARTITION).split("train").by_site()
    expected = train(clients, "inprocess", privacy)
    first, second = expected.history
    assert first["absent"] == {"client-1": "answered after the round was closed"}
    assert second["absent"] == {"client-1": "dropped out"}
    assert list(first["refused"]) == ["client-2"]  # NaN
    # A huge update is refused, or clipped where updates are private.
    assert list(second.get("refused", ())) == (["client-2"] if privacy == "none" else [])
    found = train(clients, "deployment:patience=3600", privacy)
    assert found.shared.keys() == expected.shared.keys()
    assert all(torch.equal(found.shared[name], expected.shared[name]) for name in expected.shared)
    assert notes(found.history) == notes(expected.history)
    assert ("privacy" in second) == (privacy != "none")
    assert_ended(place / "tmp")
