"""Memory of a federation in one process does not grow with the number of clients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Four million parameters, 16 MB, unless told otherwise: any copy that stays for each client shows.
SCRIPT = """
import resource, sys
import torch
from torch import nn
from robustbench_med import Classifier, Split, TrainJob, load_component

class Wide(Classifier):
    def __init__(self):
        super().__init__()
        width = int(sys.argv[3])
        self.wide = nn.Linear(64, width)
        self.head = nn.Linear(width, 2)
    def forward(self, x):
        return self.head(self.wide(x.flatten(1)))

def peak(clients):
    splits = {}
    for index in range(clients):
        images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(index))
        name = f"c{index}"
        splits[name] = Split(images, torch.tensor([0, 1]), (f"{name}-0", f"{name}-1"), (name,) * 2)
    found = load_component("strategy", sys.argv[1]).train(Wide, splits, TrainJob())
    assert clients / 2 < len(found.history[0]["clients"]) <= clients
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
few = peak(10)
print(few, peak(int(sys.argv[2])) - few)
"""


def growth(strategy: str, clients: int, width: int = 60_000) -> float:
    """MB of the peak of this number of clients beyond that of ten."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, strategy, str(clients), str(width)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[1])


SHORT = "rounds=2,local_epochs=1,optimizer=sgd"


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        f"fedavg:{SHORT}",
        f"fedprox:{SHORT}",
        f"fedadam:{SHORT}",
        f"fedavg:{SHORT},faults=[random:dropout=0.2]",
        f"fedavg:{SHORT},privacy=[dp:clipping=0.1]",
    ],
)
def test_a_hundred_clients_need_no_more_memory_than_ten(strategy):
    assert growth(strategy, 100) < 64  # 90 more models would be 1,400 MB; the allocator leaves gaps of some arrays


@pytest.mark.long
def test_thirty_clients_need_no_more_memory_than_ten():
    assert growth(f"fedavg:{SHORT}", 30, width=30_000) < 48  # 20 more models would be 160 MB


def test_nothing_is_left_on_disk(linear, clients, monkeypatch, tmp_path):
    import tempfile

    from rbmed_fl.strategies.fedavg import FedAvg
    from robustbench_med import TrainJob

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    FedAvg(FedAvg.Params(rounds=1)).train(linear, clients, TrainJob())
    assert list(Path(tmp_path).iterdir()) == []
