"""Byzantine clients: what each behaviour changes, that other clients are unchanged, and robust aggregation."""

from __future__ import annotations

import pytest
import torch

from rbmed_fl.byzantine import KINDS, parse_byzantine
from rbmed_fl.byzantine.backdoor import Trigger, stamp
from rbmed_fl.local_training import LocalRound
from rbmed_fl.strategies.bounds import LocalOnly
from rbmed_fl.strategies.coordinatewise import FedMedian, FedTrimmedAvg
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedmoe import FedMoE
from rbmed_fl.strategies.krum import Bulyan, Krum, MultiKrum
from robustbench_med import Budget, Classifier, Split, ThreatModel, TrainJob
from robustbench_med.errors import BadParameter
from robustbench_med.testing import toy_images, toy_target
from robustbench_med.testing.side_effects import states_differ

NAMES = ("north", "south", "west")
SHORT = {"rounds": 1, "local_epochs": 2, "batch_size": 8}


def local_round(labels=(0, 1, 2, 0), seed=3) -> LocalRound:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(labels)
    return LocalRound("west", torch.rand(len(labels), 1, 8, 8, generator=generator), labels, 1, generator)


RECEIVED = {"w": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([[0.5]])}
SENT = {"w": torch.tensor([1.5, 1.0, 3.0]), "b": torch.tensor([[0.75]])}


# --- what each changes ---


def test_label_flip_gives_the_next_class():
    behaviour = parse_byzantine("label-flip", NAMES)
    assert behaviour.poison_data(local_round((0, 1, 2, 0))).labels.tolist() == [1, 2, 0, 1]
    assert behaviour.poison_data(local_round((0, 1, 1))).labels.tolist() == [1, 0, 0]
    assert behaviour.poison_data(local_round((0, 0))).labels.tolist() == [1, 1]
    honest = local_round()
    poisoned = behaviour.poison_data(honest)
    assert torch.equal(poisoned.images, honest.images)
    assert not states_differ(behaviour.poison_update(RECEIVED, SENT, honest), SENT)


def test_sign_flip_inverts_the_update():
    sent = parse_byzantine("sign-flip", NAMES).poison_update(RECEIVED, SENT, local_round())
    assert not states_differ(sent, {"w": torch.tensor([0.5, 3.0, 3.0]), "b": torch.tensor([[0.25]])})
    sent = parse_byzantine("sign-flip:factor=4", NAMES).poison_update(RECEIVED, SENT, local_round())
    assert not states_differ(sent, {"w": torch.tensor([-1.0, 6.0, 3.0]), "b": torch.tensor([[-0.5]])})


def test_scaling_multiplies_the_update():
    sent = parse_byzantine("scaling:factor=8", NAMES).poison_update(RECEIVED, SENT, local_round())
    assert not states_differ(sent, {"w": torch.tensor([5.0, -6.0, 3.0]), "b": torch.tensor([[2.5]])})
    assert parse_byzantine("scaling", NAMES).params.factor == 10
    assert parse_byzantine("scaling:factor=1/4", NAMES).params.factor == 0.25


def test_gaussian_noise_is_relative_to_the_honest_update():
    generator = torch.Generator().manual_seed(0)
    received = {"w": torch.randn(300, 200, generator=generator), "b": torch.randn(7000, generator=generator)}
    sent = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in received.items()}
    noisy = parse_byzantine("gaussian:std=5", NAMES).poison_update(received, sent, local_round())
    for name, value in received.items():
        noise = noisy[name] - value
        assert 0.0485 < noise.std() < 0.0515
        assert noise.mean().abs() < 0.002
        honest = sent[name] - value
        assert (noise.flatten() @ honest.flatten()).abs() < 0.03 * noise.norm() * honest.norm()
    again = parse_byzantine("gaussian:std=5", NAMES).poison_update(received, sent, local_round())
    assert not states_differ(noisy, again)
    assert states_differ(
        noisy, parse_byzantine("gaussian:std=5", NAMES).poison_update(received, sent, local_round(seed=4))
    )


def test_backdoor_stamps_a_share_and_scales_its_update():
    honest = local_round(tuple(index % 3 for index in range(40)))
    poisoned = parse_byzantine("backdoor:target=2,share=1/4", NAMES).poison_data(honest)
    changed = (poisoned.images != honest.images).flatten(1).any(1)
    assert changed.sum() == 10
    assert torch.equal(poisoned.images[changed], stamp(honest.images[changed]))
    assert torch.equal(poisoned.images[~changed], honest.images[~changed])
    assert set(poisoned.labels[changed].tolist()) == {2}
    assert torch.equal(poisoned.labels[~changed], honest.labels[~changed])
    assert honest.labels.tolist() == [index % 3 for index in range(40)]
    boosted = parse_byzantine("backdoor:boost=2", NAMES).poison_update(RECEIVED, SENT, honest)
    assert not states_differ(boosted, {"w": torch.tensor([2.0, 0.0, 3.0]), "b": torch.tensor([[1.0]])})


def test_a_default_backdoor_replaces_the_mean():
    """If the others send no update, the mean of all clients is the Byzantine client's model."""
    sent = parse_byzantine("backdoor", NAMES).poison_update(RECEIVED, SENT, local_round())
    mean = {name: (2 * RECEIVED[name] + sent[name]) / 3 for name in SENT}
    for name, value in SENT.items():
        torch.testing.assert_close(mean[name], value)


def test_the_trigger_is_a_mirrored_checkerboard_below_the_middle():
    images = torch.full((2, 3, 64, 64), 0.5)
    stamped = stamp(images)
    board = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(stamped[:, :, 54:60, 29:35], board.expand(2, 3, 6, 6))
    assert ((stamped != 0.5).sum((1, 2, 3)) == 3 * 36).all()
    assert torch.equal(stamped, stamped.flip(3))
    assert (images == 0.5).all()
    assert stamp(torch.zeros(1, 1, 8, 8)).sum() == 5


def test_the_trigger_attack_stamps_the_same_and_stays_in_the_ball():
    x, rng = toy_images()
    model, y = toy_target(), torch.zeros(len(x), dtype=torch.int64)
    for eps in (1.0, 0.1):
        made = Trigger().run(model, x, y, ThreatModel(eps=eps), Budget(), rng)
        torch.testing.assert_close(made, x + (stamp(x) - x).clamp(-eps, eps))
    assert torch.equal(Trigger().run(model, x, y, ThreatModel(eps=1.0), Budget(), rng), stamp(x))


# --- which clients ---


def test_the_last_clients_or_those_named():
    assert parse_byzantine("none", NAMES).clients == frozenset()
    assert parse_byzantine("label-flip", NAMES).clients == {2}
    assert parse_byzantine("label-flip:clients=2", NAMES).clients == {1, 2}
    assert parse_byzantine("label-flip:2", NAMES).clients == {1, 2}
    assert parse_byzantine("label-flip:names=[north,west]", NAMES).clients == {0, 2}
    assert parse_byzantine("label-flip:names=south", NAMES).clients == {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sneaky", "unknown malicious 'sneaky'; valid: none, label-flip, sign-flip, scaling, gaussian, backdoor"),
        ("sign-flip:power=2", "unknown parameter 'power'; valid: clients, names, factor"),
        ("sign-flip:factor=-1", "factor='-1' should be greater than 0"),
        ("gaussian:std=1/0", "'1/0' is not a number or a fraction"),
        ("scaling:factor=inf", "factor='inf' should be a finite number"),
        ("backdoor:share=2", "share='2' should be less than or equal to 1"),
        ("scaling:clients=3", r"at least one client must be honest; this federation has 3 \(north, south, west\)"),
        ("scaling:names=[north,east]", "no client is named 'east'; valid: north, south, west"),
        ("scaling:names=[north],clients=1", "give either clients or names, not both"),
        ("scaling:factor", "malicious: .* is not key=value|factor"),
        ("backdoor:target=3", "target=3 of the backdoor is not a class; valid: 0 to 2"),
    ],
)
def test_an_invalid_value_is_one_line_before_anything_is_trained(text, message, linear, clients):
    with pytest.raises(BadParameter, match=message) as caught:
        FedAvg(FedAvg.Params(malicious=text)).train(linear, clients, TrainJob())
    assert "malicious" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- in a federation ---


def sent_by(monkeypatch, strategy, build, clients, **params):
    """What each client sent in the first round, by partition id."""
    from flwr.clientapp import ClientApp

    seen, call = {}, ClientApp.__call__

    def spy(app, message, context):
        reply = call(app, message, context)
        arrays = {name: torch.from_numpy(array.numpy()) for name, array in reply.content["arrays"].items()}
        seen.setdefault(int(context.node_config["partition-id"]), arrays)
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(ClientApp, "__call__", spy)
        strategy(strategy.Params(**SHORT | params)).train(build, clients, TrainJob())
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", [FedAvg, FedMoE])
def test_all_others_are_unchanged(kind, strategy, mixture, clients, monkeypatch):
    honest = sent_by(monkeypatch, strategy, mixture, clients)
    poisoned = sent_by(monkeypatch, strategy, mixture, clients, malicious=f"{kind}:names=south")
    assert not states_differ(honest[0], poisoned[0])
    assert not states_differ(honest[2], poisoned[2])
    assert states_differ(honest[1], poisoned[1])
    if kind in ("sign-flip", "scaling", "gaussian"):  # batch-norm statistics are as trained
        statistics = [name for name in honest[1] if "running" in name]
        assert statistics
        assert all(torch.equal(honest[1][name], poisoned[1][name]) for name in statistics)


def test_a_sign_flip_in_a_federation_by_hand(mixture, clients, monkeypatch):
    start = sent_by(monkeypatch, FedAvg, mixture, clients, lr=1e-30)[0]
    honest = sent_by(monkeypatch, FedAvg, mixture, clients)[2]
    poisoned = sent_by(monkeypatch, FedAvg, mixture, clients, malicious="sign-flip:factor=3")[2]
    for name in ("features.0.weight", "experts.1.bias"):
        torch.testing.assert_close(poisoned[name], start[name] - 3 * (honest[name] - start[name]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_local_training_of_other_clients_is_unchanged(kind, mixture, clients):
    federation = LocalOnly(LocalOnly.Params(**SHORT, malicious=kind))
    result = federation.train(mixture, clients, TrainJob())
    honest = LocalOnly(LocalOnly.Params(**SHORT)).train(mixture, clients, TrainJob())
    assert not states_differ(result.personal["north"], honest.personal["north"])


# --- aggregation ---


def ten_clients(seed: int = 0) -> dict[str, Split]:
    """Ten clients whose images show a class as a bright row, in noise."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for index in range(10):
        labels = torch.arange(60) % 3
        images = torch.rand(60, 1, 8, 8, generator=generator)
        images[torch.arange(60), :, 2 * labels] *= 0.6
        images[torch.arange(60), :, 2 * labels] += 0.4
        made[f"c{index}"] = Split(images, labels, tuple(f"{index}-{i}" for i in range(60)), (f"c{index}",) * 60)
    return made


class Small(Classifier):
    """A linear classifier behind batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(1)
        self.head = torch.nn.Linear(64, 3)

    def forward(self, x):
        return self.head(self.norm(x).flatten(1))


def trained(strategy, malicious, **params):
    chosen = {"rounds": 3, "local_epochs": 4, "batch_size": 60, "lr": 0.03, "augment": False} | params
    result = strategy(strategy.Params(**chosen, malicious=malicious)).train(Small, ten_clients(), TrainJob())
    classifier = Small()
    classifier.load_state_dict(result.shared)
    classifier.eval()
    test = torch.cat([split.images for split in ten_clients(1).values()])
    labels = torch.cat([split.labels for split in ten_clients(1).values()])
    with torch.no_grad():
        return float((classifier(test).argmax(1) == labels).double().mean()), result.history


@pytest.mark.parametrize("malicious", ["sign-flip:factor=10", "gaussian:std=50"])
def test_one_byzantine_client_of_ten_ruins_fedavg(malicious):
    honest, _ = trained(FedAvg, "none")
    assert honest > 0.85
    assert trained(FedAvg, malicious)[0] < honest - 0.15


@pytest.mark.parametrize("strategy", [FedMedian, FedTrimmedAvg, Krum, MultiKrum, Bulyan])
@pytest.mark.parametrize("malicious", ["sign-flip:factor=10,names=[c4]", "gaussian:std=50,names=[c4]"])
def test_robust_aggregation_stays_accurate_and_names_the_client(strategy, malicious):
    honest, history = trained(strategy, "none")
    attacked, poisoned_history = trained(strategy, malicious)
    assert attacked > 0.95 * honest
    assert honest > 0.8
    assert [entry["suspected"] for entry in poisoned_history] == [["c4"]] * 3
    assert sum(len(entry.get("suspected", [])) for entry in history) <= 2


def test_fedavg_suspects_no_client():
    _, history = trained(FedAvg, "sign-flip:factor=10")
    assert all("suspected" not in entry for entry in history)


def test_a_backdoor_succeeds_against_fedavg_and_not_against_the_median():
    def success(strategy, malicious):
        result = strategy(
            strategy.Params(rounds=3, local_epochs=12, batch_size=60, lr=0.03, augment=False, malicious=malicious)
        ).train(Small, ten_clients(), TrainJob())
        classifier = Small()
        classifier.load_state_dict(result.shared)
        classifier.eval()
        test = ten_clients(1)["c0"]
        with torch.no_grad():
            predictions = classifier(stamp(test.images[test.labels != 2])).argmax(1)
        return float((predictions == 2).double().mean())

    assert success(FedAvg, "none") < 0.3
    assert success(FedAvg, "backdoor:target=2") > 0.8
    assert success(FedMedian, "backdoor:target=2") < 0.3
