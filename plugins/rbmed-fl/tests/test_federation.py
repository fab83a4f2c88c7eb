"""What holds for every federation: privacy, repeatability, resuming, no output."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.clientapp import ClientApp
from safetensors import safe_open
from torch import Tensor, nn

from rbmed_fl.checkpoint import FILE
from rbmed_fl.strategies.bounds import LocalOnly
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedmoe import FedMoE
from robustbench_med import Learner, TrainJob
from robustbench_med.errors import UsageError, WeightsError
from robustbench_med.testing.side_effects import states_differ

PARAMS = {"rounds": 3, "local_epochs": 2, "batch_size": 8, "noise": 0.1}


def same_result(a, b) -> bool:
    return (
        not states_differ(a.shared, b.shared)
        and a.personal.keys() == b.personal.keys()
        and not any(states_differ(a.personal[k], b.personal[k]) for k in a.personal)
    )


class Watch:
    """Progress that records every step and interrupts after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.local_rounds: list[str] = []
        self.stop_after = stop_after

    def task(self, description: str, total: int):
        self.description, self.total, self.skipped = description, total, 0
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def advance(self, steps: int = 1, note: str = "") -> None:
        if not note:
            self.skipped += steps
            return
        self.local_rounds.append(note)
        if len(self.local_rounds) == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture
def messages(monkeypatch):
    """The content of every message to a client and of its reply, in order."""
    seen = []
    call = ClientApp.__call__

    def spy(app, message, context):
        seen.append(message.content)
        reply = call(app, message, context)
        seen.append(reply.content)
        return reply

    monkeypatch.setattr(ClientApp, "__call__", spy)
    return seen


@pytest.mark.parametrize("strategy", [FedAvg, FedMoE, LocalOnly])
def test_only_parameters_and_figures_are_sent(strategy, mixture, clients, messages):
    federation = strategy(strategy.Params(**PARAMS))
    federation.train(mixture, clients, TrainJob())
    assert len(messages) == 2 * 3 * 3
    shapes = {name: tuple(value.shape) for name, value in mixture().state_dict().items()}
    floats = {name for name, value in mixture().state_dict().items() if value.is_floating_point()}
    sent = {name for name in floats if not name.startswith(federation.local_prefixes(mixture()))}
    images = [image.numpy().tobytes() for split in clients.values() for image in split.images]
    for content in messages:
        for record in content.values():
            match record:
                case ArrayRecord():
                    assert set(record) == sent
                    assert all(array.shape == shapes[name] for name, array in record.items())
                    raw = b"".join(array.data for array in record.values())
                    assert not any(image in raw for image in images)
                case ConfigRecord():
                    assert set(record) == {"rounds-before", "server-round"}
                    assert all(type(value) is int for value in record.values())
                case MetricRecord():
                    figures = "partition-id num-examples loss accuracy seconds bytes-received bytes-sent"
                    assert set(record) == set(figures.split())
                    assert all(type(value) in (int, float) for value in record.values())


def test_each_client_gets_a_separate_copy(mixture, clients, messages):
    FedAvg(FedAvg.Params(**PARAMS | {"rounds": 1})).train(mixture, clients, TrainJob())
    requests = messages[::2]
    assert len({id(content) for content in requests}) == len({id(content["arrays"]) for content in requests}) == 3


def test_history_lists_each_round_and_client(mixture, clients):
    history = FedAvg(FedAvg.Params(**PARAMS)).train(mixture, clients, TrainJob()).history
    assert [entry["round"] for entry in history] == [1, 2, 3]
    assert json.loads(json.dumps(history)) == history
    parameters = sum(value.nbytes for value in mixture().state_dict().values())
    for entry in history:
        assert list(entry["clients"]) == ["north", "south", "west"]
        for name, local_round in entry["clients"].items():
            assert local_round["num-examples"] == len(clients[name])
            assert local_round["loss"] > 0
            assert 0 <= local_round["accuracy"] <= 1
            assert 0 < local_round["seconds"] < entry["seconds"]
            # Flower adds a header of 128 bytes to each array and counts the names.
            assert parameters < local_round["bytes-sent"] < parameters + 200 * 12


def test_same_seed_same_weights_other_seed_others(mixture, clients):
    def run(seed: int):
        torch.rand(seed + 1)  # earlier use of the generator must not matter
        return FedMoE(FedMoE.Params(**PARAMS)).train(mixture, clients, TrainJob(seed=seed))

    assert same_result(run(5), run(5))
    assert states_differ(run(5).shared, run(6).shared)


def test_global_generators_are_unchanged(mixture, clients):
    torch.manual_seed(7)
    random.seed(7)
    before = torch.get_rng_state(), random.getstate()
    FedMoE(FedMoE.Params(**PARAMS)).train(mixture, clients, TrainJob())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("strategy", [FedAvg, FedMoE, LocalOnly])
@pytest.mark.parametrize(("local_rounds", "finished"), [(2, 0), (4, 1), (8, 2)])
def test_killed_training_resumes_bit_identical(strategy, local_rounds, finished, mixture, clients, tmp_path):
    federation = strategy(strategy.Params(**PARAMS))
    undisturbed = federation.train(mixture, clients, TrainJob(seed=1))
    with pytest.raises(KeyboardInterrupt):
        federation.train(mixture, clients, TrainJob(seed=1, progress=Watch(local_rounds), checkpoints=tmp_path))
    watch = Watch()
    resumed = federation.train(mixture, clients, TrainJob(seed=1, progress=watch, checkpoints=tmp_path))
    assert same_result(resumed, undisturbed)
    assert watch.skipped == 3 * finished
    assert len(watch.local_rounds) == watch.total - watch.skipped
    assert [entry["round"] for entry in resumed.history] == [1, 2, 3]


def test_finished_training_is_not_repeated(mixture, clients, tmp_path):
    federation = FedMoE(FedMoE.Params(**PARAMS))
    first = federation.train(mixture, clients, TrainJob(checkpoints=tmp_path / "new"))
    watch = Watch()
    again = federation.train(mixture, clients, TrainJob(checkpoints=tmp_path / "new", progress=watch))
    assert watch.local_rounds == []
    assert same_result(first, again)
    assert first.history == again.history


def test_server_and_clients_have_separate_files(mixture, clients, tmp_path):
    FedMoE(FedMoE.Params(**PARAMS)).train(mixture, clients, TrainJob(checkpoints=tmp_path))
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    # A client also keeps the round before: it may have to repeat a round that the server did not finish.
    assert found == {FILE} | {f"clients/{i}/round-{number}.safetensors" for i in range(3) for number in (2, 3)}

    def names(path):
        with safe_open(path, framework="pt") as file:
            return set(file.keys())

    assert names(tmp_path / "clients/1/round-3.safetensors") == {"kept/gate.weight", "kept/gate.bias"}
    assert "shared/experts.0.weight" in names(tmp_path / FILE)
    assert not any("gate" in name for name in names(tmp_path / FILE))


def test_a_missing_client_state_is_one_clear_line(mixture, clients, tmp_path):
    federation = FedMoE(FedMoE.Params(**PARAMS))
    with pytest.raises(KeyboardInterrupt):
        federation.train(mixture, clients, TrainJob(progress=Watch(4), checkpoints=tmp_path))
    (tmp_path / "clients/1/round-1.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"state after round 1 is missing: .*clients/1/round-1"):
        federation.train(mixture, clients, TrainJob(checkpoints=tmp_path))


def test_clients_may_have_any_name(mixture, clients, tmp_path):
    odd = dict(zip(("a/b|c", "0", "St. Élisabeth"), clients.values(), strict=True))
    federation = FedMoE(FedMoE.Params(**PARAMS))
    with pytest.raises(KeyboardInterrupt):
        federation.train(mixture, odd, TrainJob(progress=Watch(4), checkpoints=tmp_path))
    resumed = federation.train(mixture, odd, TrainJob(checkpoints=tmp_path))
    assert same_result(resumed, federation.train(mixture, odd, TrainJob()))


def test_half_written_checkpoint_is_never_read(mixture, clients, tmp_path):
    federation = FedMoE(FedMoE.Params(**PARAMS))
    (tmp_path / FILE).with_suffix(".draft").write_bytes(b"half a fi")
    result = federation.train(mixture, clients, TrainJob(checkpoints=tmp_path))
    assert same_result(result, federation.train(mixture, clients, TrainJob()))


def test_checkpoint_of_another_federation_is_refused(mixture, clients, tmp_path):
    params = FedMoE.Params(**PARAMS)
    FedMoE(params).train(mixture, clients, TrainJob(checkpoints=tmp_path))
    with pytest.raises(UsageError, match="different: initial weights, seed"):
        FedMoE(params).train(mixture, clients, TrainJob(seed=1, checkpoints=tmp_path))
    fewer = {name: clients[name] for name in ("north", "south")}
    with pytest.raises(UsageError, match="different: clients' data"):
        FedMoE(params).train(mixture, fewer, TrainJob(checkpoints=tmp_path))
    with pytest.raises(UsageError, match="different: parameters"):
        FedMoE(FedMoE.Params(**PARAMS | {"lr": 0.1})).train(mixture, clients, TrainJob(checkpoints=tmp_path))


def test_corrupt_checkpoint_is_one_clear_line(mixture, clients, tmp_path):
    (tmp_path / FILE).write_bytes(b"not safetensors at all")
    with pytest.raises(WeightsError, match=r"server\.safetensors is corrupt .*delete it") as caught:
        FedAvg().train(mixture, clients, TrainJob(checkpoints=tmp_path))
    assert "\n" not in str(caught.value)


def test_progress_counts_local_rounds_and_shows_the_loss(mixture, clients):
    watch = Watch()
    FedAvg(FedAvg.Params(**PARAMS)).train(mixture, clients, TrainJob(progress=watch))
    assert watch.description == "FedAvg over 3 clients"
    assert watch.total == len(watch.local_rounds) == 9
    assert watch.local_rounds[0].startswith("round 1 of 3, north: loss ")
    assert watch.local_rounds[0].endswith(" %")


def test_flower_is_quiet_and_its_logger_restored(mixture, clients, capfd):
    logger = logging.getLogger("flwr")
    before = logger.level
    FedAvg(FedAvg.Params(**PARAMS)).train(mixture, clients, TrainJob())
    assert capfd.readouterr() == ("", "")
    assert logger.level == before
    with pytest.raises(KeyboardInterrupt):
        FedAvg(FedAvg.Params(**PARAMS)).train(mixture, clients, TrainJob(progress=Watch(1)))
    assert logger.level == before


def test_specs_load_neither_torch_nor_flower_and_telemetry_is_off():
    code = (
        "import sys, rbmed_fl.plugin as p; specs = list(p.rbmed_strategies());"
        "assert len(specs) == 20, specs;"
        "assert not {'torch', 'flwr'} & set(sys.modules);"
        "import importlib; [getattr(importlib.import_module(m), c)() for m, c in (s.target.split(':') for s in specs)];"
        "from flwr.supercore import telemetry; assert telemetry.FLWR_TELEMETRY_ENABLED == '0';"
        "assert 'ray' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k != "FLWR_TELEMETRY_ENABLED"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_each_local_round_has_its_own_random_numbers(mixture, clients):
    seeds = []

    class Note(FedAvg):
        def fit(self, classifier, local_round):
            seeds.append((local_round.generator.initial_seed(), torch.initial_seed()))
            return super().fit(classifier, local_round)

    Note(Note.Params(**PARAMS)).train(mixture, clients, TrainJob())
    assert len(seeds) == len(set(seeds)) == 9


class Mean(Learner):
    """Learns the mean image: a learner as of a detector or purifier, not a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, 8, 8))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - self.mean).square().sum((1, 2, 3)).mean() / 2


def test_a_learner_that_is_no_classifier_is_trained_alike_but_has_no_accuracy(clients):
    options = {"optimizer": "sgd", "lr": 1.0, "schedule": "constant", "weight_decay": 0, "augment": False}
    federated = FedAvg(FedAvg.Params(rounds=3, local_epochs=1, **options)).train(Mean, clients, TrainJob())
    # One step of length 1 ends in the client's mean; averaging weights it by its images.
    wanted = torch.cat([split.images for split in clients.values()]).mean(0)
    torch.testing.assert_close(federated.shared["mean"], wanted)
    for entry in federated.history:
        assert all("loss" in figures and "accuracy" not in figures for figures in entry["clients"].values())
