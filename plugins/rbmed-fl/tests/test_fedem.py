"""FedEM and pFedDef: the mixture against its definition, EM on data whose mixtures are known, the limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from flwr.clientapp import ClientApp
from torch import nn

from rbmed_fl.local_training import LocalRound
from rbmed_fl.strategies.fedavg import FedAvg
from rbmed_fl.strategies.fedem import Expected, FedEM, Mixture, PFedDef, responsibilities
from robustbench_med import Classifier, Split, TrainJob
from robustbench_med.errors import NotDefined
from robustbench_med.testing import Stop, StopAfter

SHORT = {"rounds": 2, "local_epochs": 2, "batch_size": 8}


class Binary(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        return self.head(10 * (x - 0.5).flatten(1))


class Headed(Binary):
    personal = ("head.bias",)
    heads = ("head.",)


def make_local_round(split: Split) -> LocalRound:
    return LocalRound("north", split.images, split.labels, 1, torch.Generator().manual_seed(0))


def make_mixture(build, weights: list[float]) -> Mixture:
    torch.manual_seed(5)
    mixture = Mixture(build() for _ in weights)
    mixture.weights.copy_(torch.tensor(weights))
    return mixture


def test_logits_are_the_logarithm_of_the_mixed_probabilities(linear, clients):
    mixture, x = make_mixture(linear, [0.5, 0.3, 0.2]), clients["north"].images
    outputs = torch.stack([part(x).softmax(1) for part in mixture.components])
    mixed = (torch.tensor([0.5, 0.3, 0.2])[:, None, None] * outputs).sum(0)
    torch.testing.assert_close(mixture(x), mixed.log())
    torch.testing.assert_close(mixture(x).softmax(1), mixed)


def test_features_are_concatenated(clients):
    class WithFeatures(Binary):
        def embed(self, x):
            return self.head.weight[:, :3].sum() * x.flatten(1)[:, :3]

    mixture, x = make_mixture(WithFeatures, [0.5, 0.5]), clients["north"].images
    first, second = mixture.components
    assert torch.equal(mixture.embed(x), torch.cat([first.embed(x), second.embed(x)], 1))
    with pytest.raises(NotDefined, match="Binary offers no features"):
        make_mixture(Binary, [1.0]).embed(x)


def test_gradients_are_those_of_the_definition(linear, clients):
    mixture = make_mixture(linear, [0.5, 0.3, 0.2]).double()
    x, y = clients["north"].images.double().requires_grad_(), clients["north"].labels
    outputs = torch.stack([part(x).softmax(1) for part in mixture.components])
    mixed = torch.einsum("m,mnk->nk", mixture.weights, outputs)
    wanted = [x, *mixture.parameters()]
    expected = torch.autograd.grad(F.nll_loss(mixed.log(), y), wanted)
    found = torch.autograd.grad(mixture.loss(x, y), wanted)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_certain_and_unused_components_are_finite(linear, clients):
    mixture, x = make_mixture(linear, [1.0, 0.0]), clients["north"].images
    with torch.no_grad():
        mixture.components[0].head.weight.mul_(1e4)  # its probabilities underflow
        mixture.components[1].head.weight.mul_(1e4)
    x = x.clone().requires_grad_()
    logits = mixture(x)
    torch.testing.assert_close(logits, mixture.components[0](x).log_softmax(1))
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, clients["north"].labels), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert responsibilities(mixture, make_local_round(clients["north"]), FedEM.Params())[:, 0].eq(1).all()


def test_the_e_step_is_bayes_rule(linear, clients):
    mixture, split = make_mixture(linear, [0.5, 0.3, 0.2]), clients["south"]
    likelihood = torch.stack([part(split.images).softmax(1) for part in mixture.components])
    joint = mixture.weights[:, None] * likelihood[:, torch.arange(30), split.labels]
    q = responsibilities(mixture, make_local_round(split), FedEM.Params(batch_size=7))
    torch.testing.assert_close(q, (joint / joint.sum(0)).T)


def test_the_e_step_is_in_evaluation_mode(mixture, clients):
    several = make_mixture(mixture, [0.5, 0.5]).train()
    one, two = (
        responsibilities(several, make_local_round(clients["south"]), FedEM.Params(batch_size=n)) for n in (7, 30)
    )
    torch.testing.assert_close(one, two)  # no dropout, and nothing depends on the batch
    assert several.components[0].features[1].num_batches_tracked == 0


def test_the_m_step_descends_on_the_mixtures_loss_where_q_is_fresh(linear, clients):
    """EM's identity: the gradient of -log p(y | x) is that of the expected loss under the posterior."""
    mixture, split = make_mixture(linear, [0.5, 0.3, 0.2]), clients["south"]
    q = responsibilities(mixture, make_local_round(split), FedEM.Params())
    expected = Expected(mixture, q)
    torch.testing.assert_close(expected(split.images), mixture(split.images))
    weights = list(mixture.parameters())
    found = torch.autograd.grad(expected.loss(split.images, split.labels), weights)
    wanted = torch.autograd.grad(mixture.loss(split.images, split.labels), weights)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_known_mixtures_are_recovered():
    """Two linear labellings that contradict each other, mixed in known proportions at each of three clients."""
    truth = {"a": 0.9, "b": 0.5, "c": 0.2}
    generator = torch.Generator().manual_seed(1)
    clients = {}
    for name, share in truth.items():
        bright = torch.arange(200) % 2
        x = torch.rand(200, 1, 8, 8, generator=generator) * 0.6 + 0.4 * bright.view(-1, 1, 1, 1)
        first = torch.arange(200) < 200 * share
        clients[name] = Split(x, torch.where(first, bright, 1 - bright), tuple(map(str, range(200))), (name,) * 200)
    params = FedEM.Params(
        components=2,
        rounds=12,
        local_epochs=2,
        batch_size=50,
        optimizer="sgd",
        lr=0.3,
        schedule="constant",
        weight_decay=0,
        augment=False,
    )
    result = FedEM(params).train(Binary, clients, TrainJob())
    found = torch.stack([result.personal[name]["weights"] for name in truth])
    column = found[:, 0] if found[0, 0] > 0.5 else found[:, 1]
    torch.testing.assert_close(column, torch.tensor(list(truth.values())), atol=0.02, rtol=0)
    # The components have learnt the two labellings, which no single classifier can.
    rises = [result.shared[f"components.{m}.head.weight"].sum(1) for m in (0, 1)]
    rises = [float(rise[1] - rise[0]) for rise in rises]
    assert min(rises) < 0 < max(rises)


def test_one_component_is_fedavg(mixture, clients):
    fedavg = FedAvg(FedAvg.Params(**SHORT)).train(mixture, clients, TrainJob())
    plain = type("Plain", (mixture,), {"personal": ()})  # FedAvg averages the gates too
    fedem = FedEM(FedEM.Params(**SHORT, components=1)).train(plain, clients, TrainJob())
    assert all(torch.equal(fedem.shared[f"components.0.{key}"], value) for key, value in fedavg.shared.items())
    assert all(torch.equal(state["weights"], torch.ones(1)) for state in fedem.personal.values())


@pytest.mark.parametrize("strategy", [FedEM, PFedDef])
def test_weights_stay_with_their_clients_and_sum_to_one(strategy, linear, clients, monkeypatch):
    sent = set()
    call = ClientApp.__call__

    def spy(app, message, context):
        sent.update(message.content["arrays"])
        reply = call(app, message, context)
        sent.update(reply.content["arrays"])
        return reply

    monkeypatch.setattr(ClientApp, "__call__", spy)
    result = strategy(strategy.Params(**SHORT)).train(linear, clients, TrainJob())
    assert sent == {f"components.{m}.head.{part}" for m in range(3) for part in ("weight", "bias")}
    weights = {name: state["weights"] for name, state in result.personal.items()}
    assert all(set(state) == {"weights"} for state in result.personal.values())
    assert all(float(value.sum()) == pytest.approx(1) for value in weights.values())
    assert not torch.equal(weights["north"], weights["south"])
    mean = sum(len(clients[name]) * weights[name] for name in clients) / 55
    torch.testing.assert_close(result.shared["weights"], mean)


def test_the_deployed_model_loads_and_predicts(mixture, clients):
    federation = FedEM(FedEM.Params(**SHORT))
    result = federation.train(mixture, clients, TrainJob())
    model = federation.classifier(mixture).eval()
    model.load_state_dict(result.shared | result.personal["south"])
    logits = model(clients["south"].images)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(30))
    outputs = torch.stack([part(clients["south"].images).softmax(1) for part in model.components], -1)
    torch.testing.assert_close(logits.exp(), outputs @ result.personal["south"]["weights"])


def test_components_differ_and_bring_their_prefixes():
    several = FedEM(FedEM.Params(components=2)).classifier(Headed)
    assert not torch.equal(several.components[0].head.weight, several.components[1].head.weight)
    assert several.personal == ("weights", "components.0.head.bias", "components.1.head.bias")
    assert several.heads == ("components.0.head.", "components.1.head.")


def test_pfeddef_is_fedem_with_adversarial_training(linear, clients):
    assert PFedDef.Params().adversarial == "pgd"
    text = "pgd:steps=2,eps=0.1"
    one = PFedDef(PFedDef.Params(**SHORT, adversarial=text)).train(linear, clients, TrainJob())
    two = FedEM(FedEM.Params(**SHORT, adversarial=text)).train(linear, clients, TrainJob())
    plain = FedEM(FedEM.Params(**SHORT)).train(linear, clients, TrainJob())
    key = "components.0.head.weight"
    assert torch.equal(one.shared[key], two.shared[key])
    assert not torch.equal(one.shared[key], plain.shared[key])


def test_images_are_attacked_against_the_own_mixture(clients, monkeypatch):
    """Where a client uses one component alone, nothing of the other reaches its attacked images."""
    split = clients["north"]
    local_round = make_local_round(Split(split.images * 0.4 + 0.3, split.labels % 2, split.patients, split.sites))
    params = PFedDef.Params(rounds=1, local_epochs=1, batch_size=100, augment=False, adversarial="pgd:eps=0.1")
    mixture = make_mixture(Binary, [1.0, 0.0])
    weight = mixture.components[0].head.weight.detach().clone()
    seen = []
    loss = Expected.loss
    monkeypatch.setattr(Expected, "loss", lambda self, x, y: seen.append((x, y)) or loss(self, x, y))
    PFedDef(params).fit(mixture, local_round)
    ((x, y),) = seen
    uphill = (weight[1 - y] - weight[y]).view_as(x).sign()
    order = torch.cdist((x - 0.1 * uphill).flatten(1), local_round.images.flatten(1)).argmin(1)
    torch.testing.assert_close(x, local_round.images[order] + 0.1 * uphill)
    assert torch.equal(local_round.labels[order], y)  # each image with its own label
    assert sorted(order.tolist()) == list(range(18))


@pytest.mark.parametrize("strategy", [FedEM, PFedDef])
def test_killed_training_resumes_bit_identical(strategy, mixture, clients, tmp_path):
    federation = strategy(strategy.Params(**SHORT, components=2))
    undisturbed = federation.train(mixture, clients, TrainJob(seed=1))
    with pytest.raises(Stop):
        federation.train(mixture, clients, TrainJob(seed=1, progress=StopAfter(5), checkpoints=tmp_path))
    resumed = federation.train(mixture, clients, TrainJob(seed=1, checkpoints=tmp_path))
    assert all(torch.equal(resumed.shared[key], value) for key, value in undisturbed.shared.items())
    for name, state in undisturbed.personal.items():
        assert all(torch.equal(resumed.personal[name][key], value) for key, value in state.items())
