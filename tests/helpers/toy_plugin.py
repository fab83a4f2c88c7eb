"""A complete plugin in one file: data, model, strategy, parts, attacks and defenses that run in milliseconds.

Everything is real (a linear model is trained, weights are saved and loaded), only small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import robustbench_med as rbmed
from robustbench_med import hookimpl

Build = Callable[[], rbmed.Classifier]
Clients = Mapping[str, rbmed.Split]


class Stripes(rbmed.Dataset):
    """Bright left half or bright right half, two sites, no patient twice."""

    class Params(rbmed.Params):
        test: int = rbmed.Field(24, ge=0, description="Test images.")
        measured: bool = rbmed.Field(False, description="Say how large the lesions are.")

    def card(self) -> rbmed.DataCard:
        return rbmed.DataCard(
            name="stripes",
            classes=("left", "right"),
            channels=1,
            size=8,
            licence="none",
            citation="none",
            digest=f"stripes-{self.params.test}",
            synthetic=True,
            lesion_class=1,
        )

    def split(self, name: str) -> rbmed.Split:
        n = {"train": 96, "calibration": 40, "test": self.params.test}[name]
        chance = torch.Generator().manual_seed(rbmed.seed_of("stripes", name) % 2**31)
        labels = torch.randint(2, (n,), generator=chance)
        images = 0.35 + 0.1 * torch.rand(n, 1, 8, 8, generator=chance)
        left = torch.arange(8) < 4
        images += 0.15 * torch.where(labels[:, None, None, None] == 1, ~left, left)
        sites = tuple(f"site-{i % 2}" for i in range(n))
        radius = torch.where(labels == 1, 4.0 + 20 * torch.rand(n, generator=chance), torch.nan)
        lesions = {"radius": radius} if self.params.measured else {}
        return rbmed.Split(images, labels, tuple(f"{name}-{i}" for i in range(n)), sites, lesions=lesions)


class LinearClassifier(rbmed.Classifier):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1) - 0.5)


class LinearModel(rbmed.Model):
    def build(self, num_classes: int, channels: int, size: int) -> LinearClassifier:
        return LinearClassifier(channels * size * size, num_classes)


def descend(model: rbmed.Classifier, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> float:
    """Gradient steps on all images at once; returns the last loss."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(x, y)
        loss.backward()
        optimizer.step()
    return loss.item()


class Pooled(rbmed.Strategy):
    def train(self, build: Build, clients: Clients, job: rbmed.TrainJob) -> rbmed.Federated:
        model = build()
        x = torch.cat([split.images for split in clients.values()])
        y = torch.cat([split.labels for split in clients.values()])
        loss = descend(model, x, y, torch.optim.Adam(model.parameters(), lr=0.05), 100)
        return rbmed.Federated(shared=model.state_dict(), history=[{"loss": loss}])


class Twin(rbmed.Classifier):
    """Two classifiers that answer together, as a strategy may combine several."""

    def __init__(self, one: rbmed.Classifier, other: rbmed.Classifier) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x) + self.other(x)) / 2


class Own(rbmed.Strategy):
    """Two classifiers for each client, trained on its own images; the shared state is their mean."""

    class Params(rbmed.Params):
        steps: int = rbmed.Field(30, ge=1, description="Gradient steps.")
        adversarial: str = rbmed.Field("none", description="Any word.")
        malicious: str = rbmed.Field("none", description="Who is suspected: none or the name of a client.")
        engine: str = rbmed.Field("inprocess", description="Any word.", json_schema_extra={"runtime": True})

    def classifier(self, build: Build) -> rbmed.Classifier:
        return Twin(build(), build())

    def train(self, build: Build, clients: Clients, job: rbmed.TrainJob) -> rbmed.Federated:
        states = {}
        for number, (client, split) in enumerate(clients.items(), 1):
            model = self.classifier(build)
            optimizer = torch.optim.SGD(model.parameters(), lr=number)
            descend(model, split.images, split.labels, optimizer, self.params.steps)
            states[client] = model.state_dict()
        names = next(iter(states.values()))
        shared = {name: torch.stack([state[name] for state in states.values()]).mean(0) for name in names}
        figures = {"bytes-sent": 1000, "bytes-received": 500}
        facts: dict[str, Any] = {"round": 1, "seconds": 0.5, "clients": dict.fromkeys(clients, figures)}
        if self.params.malicious != "none":
            facts["suspected"] = [self.params.malicious]
        return rbmed.Federated(shared, states, [facts, {**facts, "round": 2, "suspected": []}])


class MeanImage(rbmed.Learner):
    """Learns the mean of the images."""

    def __init__(self, mean: nn.Parameter) -> None:
        super().__init__()
        self.mean = mean

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - self.mean).square().mean()


class Roughness(rbmed.Detector):
    """Mean squared difference to a learned mean image."""

    stochastic = False
    family = "mean-image-detector"

    class Params(rbmed.Params):
        training: str = rbmed.Field("pooled", description="Strategy.")

    def build(self, channels: int, size: int) -> None:
        self.mean = nn.Parameter(torch.zeros(channels, size, size))

    def learner(self, system: rbmed.System) -> MeanImage:
        return MeanImage(self.mean)

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        return (x - self.mean).square().flatten(1).mean(1)


class Typical(Roughness):
    """The same, in units of what it is for the client's own training images."""

    def build(self, channels: int, size: int) -> None:
        super().build(channels, size)
        self.usual: Tensor
        self.register_buffer("usual", torch.zeros(0))

    def fit(self, split: rbmed.Split, system: rbmed.System, job: rbmed.TrainJob) -> dict[str, float]:
        self.usual = (split.images - self.mean.detach()).square().flatten(1).mean(1)
        return {}

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        return super().score(x, system, rng) / self.usual.mean()


class Margins(rbmed.Detector):
    """How much less certain the classifier is than on the client's own training images; keeps these certainties."""

    stochastic = False
    needs = ("classifier",)

    def build(self, channels: int, size: int) -> None:
        self.known: Tensor
        self.register_buffer("known", torch.zeros(0))

    def fit(self, split: rbmed.Split, system: rbmed.System, job: rbmed.TrainJob) -> dict[str, float]:
        self.known = self._certainty(split.images, system)
        return {"images": float(len(split))}

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        return self.known.mean() - self._certainty(x, system)

    def _certainty(self, x: Tensor, system: rbmed.System) -> Tensor:
        return system.classifier(x).softmax(1).amax(1).detach()


class Blur(rbmed.Purifier):
    """Averages neighbours, with a little noise."""

    stochastic = True

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        smooth = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return (smooth + 0.01 * rng.normal(tuple(x.shape))).clamp(0, 1)


class Certainty(Margins):
    """The same with the sign turned, nothing learned."""

    needs = ()
    fit = rbmed.Part.fit

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        return self._certainty(x, system)


class Uncertainty(Certainty):
    """One minus it."""

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        return 1 - self._certainty(x, system)


class Retouch(rbmed.Purifier):
    """Moves images towards a learned mean image."""

    stochastic = False
    family = "mean-image"

    class Params(rbmed.Params):
        training: str = rbmed.Field("pooled", description="Strategy.")
        share: float = rbmed.Field(
            0.5, ge=0, le=1, description="How far, at strength 1.", json_schema_extra={"runtime": True}
        )

    def build(self, channels: int, size: int) -> None:
        self.mean = nn.Parameter(torch.zeros(channels, size, size))

    def learner(self, system: rbmed.System) -> MeanImage:
        return MeanImage(self.mean)

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        return x.lerp(self.mean.clamp(0, 1).expand_as(x), self.params.share * strength.view(-1, 1, 1, 1))


class Several(rbmed.Purifier):
    """Two copies from each of two purifiers, answered together by their mean."""

    votes = 4

    class Params(rbmed.Params):
        one: str = rbmed.Field("blur", description="A purifier.")
        other: str = rbmed.Field("retouch", description="Another.")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.one = rbmed.load_component("purifier", self.params.one)
        self.other = rbmed.load_component("purifier", self.params.other)

    def inner(self) -> tuple[rbmed.Part, ...]:
        return self.one, self.other

    def build(self, channels: int, size: int) -> None:
        for part in self.inner():
            part.build(channels, size)

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        return self.copies(x, strength, rng)[:, 0]

    def copies(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        twice = (x.repeat_interleave(2, 0), strength.repeat_interleave(2), rng.repeat(2))
        return torch.cat([part.purify(*twice).unflatten(0, (-1, 2)) for part in (self.one, self.other)], 1)

    def join(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1).mean(1).log()


class Shift(rbmed.Attack):
    """One signed gradient step, or beyond the ball on request."""

    class Params(rbmed.Params):
        factor: float = rbmed.Field(1.0, ge=0, description="Step in units of eps.")
        fail: bool = rbmed.Field(False, description="Raise instead.")

    def run(self, target_model, x, y, threat, budget, rng):
        if self.params.fail:
            raise RuntimeError("as asked")
        x = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(target_model(x), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x)
        return (x + self.params.factor * threat.eps * grad.sign()).detach()


class Guarded(rbmed.Defense):
    class Params(rbmed.Params):
        fpr: float = rbmed.Field(0.1, gt=0, lt=1, description="False-positive rate.")
        detector: str = rbmed.Field("roughness", description="Detector.")
        purifier: str = rbmed.Field("blur", description="Purifier.")
        strength: float | None = rbmed.Field(None, description="Strength of every purification.")

    def recipe(self) -> rbmed.Recipe:
        p = self.params
        detector, purifier = (rbmed.parse(text) for text in (p.detector, p.purifier))
        return rbmed.Recipe(
            rbmed.PartRef("linear"), rbmed.PartRef("pooled"), detector, purifier, fpr=p.fpr, strength=p.strength
        )


class Bare(rbmed.Defense):
    def recipe(self) -> rbmed.Recipe:
        return rbmed.Recipe(rbmed.PartRef("linear"), rbmed.PartRef("pooled"))


def _specs(kind: type[Any], more: dict[str, Any] | None = None, /, **classes: type[Any]) -> Iterator[Any]:
    for name, cls in classes.items():
        yield kind(name=name, target=f"{cls.__module__}:{cls.__name__}", summary=f"toy {name}", **(more or {}))


@hookimpl
def rbmed_datasets() -> Iterator[rbmed.DatasetSpec]:
    return _specs(rbmed.DatasetSpec, {"synthetic": True}, stripes=Stripes)


@hookimpl
def rbmed_models() -> Iterator[rbmed.ModelSpec]:
    return _specs(rbmed.ModelSpec, linear=LinearModel)


@hookimpl
def rbmed_strategies() -> Iterator[rbmed.StrategySpec]:
    return _specs(rbmed.StrategySpec, pooled=Pooled, own=Own)


@hookimpl
def rbmed_detectors() -> Iterator[rbmed.DetectorSpec]:
    classes = (Roughness, Margins, Typical, Certainty, Uncertainty)
    return _specs(rbmed.DetectorSpec, **{cls.__name__.lower(): cls for cls in classes})


@hookimpl
def rbmed_purifiers() -> Iterator[rbmed.PurifierSpec]:
    return _specs(rbmed.PurifierSpec, blur=Blur, retouch=Retouch, several=Several)


@hookimpl
def rbmed_attacks() -> Iterator[rbmed.AttackSpec]:
    return _specs(rbmed.AttackSpec, {"norms": ("linf",)}, shift=Shift)


@hookimpl
def rbmed_defenses() -> Iterator[rbmed.DefenseSpec]:
    return _specs(rbmed.DefenseSpec, guarded=Guarded, bare=Bare)
