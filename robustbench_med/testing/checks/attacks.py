"""Checks of an attack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_med.errors import BudgetExceeded, UsageError
from robustbench_med.interfaces.attack import Attack, TargetModel
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.plugins.specs import AttackSpec
from robustbench_med.testing import other_device
from robustbench_med.testing.checking import Checks, NotApplicable, Subject
from robustbench_med.testing.pretend.device import PretendDevice
from robustbench_med.testing.side_effects import GlobalDraws, Unmodified, like
from robustbench_med.testing.toys import toy_images, toy_target

check = Checks()
EPS = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "corruption": 3.0, "acquisition": 1.0}
CLASSES = (2, 4)


@dataclass(frozen=True)
class Trial:
    """An attack on toy images under one threat model, and its result."""

    attack: Attack
    threat: ThreatModel
    classes: int
    target: TargetModel
    x: Tensor
    y: Tensor
    rng: Stream
    made: Tensor

    def run(self, rows: Tensor | slice = slice(None), target: TargetModel | None = None) -> Tensor:
        """Attack some of the images, in the order of ``rows``."""
        made: Tensor = self.attack.run(
            target or self.target, self.x[rows].clone(), self.y[rows], self.threat, Budget(), self.rng[rows]
        )
        return made.detach()

    def __str__(self) -> str:
        return f"{self.threat.norm}, {self.classes} classes"


def _trials(subject: Subject) -> list[Trial]:
    """For each norm that the spec names, on few and on more classes; the attack may reject one of the two."""
    spec = subject.entry.spec
    assert isinstance(spec, AttackSpec)
    attack: Attack = subject.build()
    if not spec.norms:
        raise UsageError("an attack must support at least one norm")
    trials: list[Trial] = []
    refused: list[str] = []
    for norm in spec.norms:
        refused = []
        for classes in CLASSES:
            target = toy_target(classes, gradients=_access(subject) == "gradient")
            x, rng = toy_images()
            y = target(x).argmax(1).detach()
            threat = ThreatModel(norm=norm, eps=EPS[norm])
            trial = Trial(attack, threat, classes, target, x, y, rng, x)
            try:
                with torch.random.fork_rng(devices=[]):
                    trials.append(replace(trial, made=trial.run()))
            except UsageError as error:  # an attack may require more classes
                refused.append(str(error))
        # A setting that is given may be defined for one norm only.
        if len(refused) == len(CLASSES) and not subject.ref.params:
            raise UsageError(f"{norm}: runs neither with 2 nor with 4 classes: {refused[0]}")
    if not trials:
        raise UsageError(f"runs under no norm: {refused[0]}")
    return trials


def _access(subject: Subject) -> str:
    """The access that the attack needs."""
    attack: Attack = subject.once("attack", subject.build)
    spec = subject.entry.spec
    assert isinstance(spec, AttackSpec)
    return attack.access or spec.access


def _each(subject: Subject) -> list[Trial]:
    return subject.once("trials", lambda: _trials(subject))


@check(
    "runs", "It runs under every norm that its spec names, on 2 classes or on 4, and returns images like those given"
)
def runs(subject: Subject) -> Iterator[str]:
    """Type and device too."""
    for trial in _each(subject):
        for fault in like(trial.made, trial.x, tuple(trial.x.shape), "the result"):
            yield f"{trial}: {fault}"


@check("colour", "It attacks images of three channels")
def colour(subject: Subject) -> Iterator[str]:
    """As it does grey ones."""
    trial = _each(subject)[0]
    target = toy_target(trial.classes, channels=3, gradients=_access(subject) == "gradient")
    x, rng = toy_images(channels=3)
    y = target(x).argmax(1).detach()
    made = replace(trial, target=target, x=x, y=y, rng=rng).run()
    yield from like(made, x, tuple(x.shape), "the result")
    try:
        trial.threat.check(made, x)
    except Exception as error:  # noqa: BLE001 -- the line says what is wrong
        yield f"{trial}: {error}"


@check("inside-the-ball", "Its images are finite, in the ball and in [0, 1]")
def inside_the_ball(subject: Subject) -> Iterator[str]:
    """As the harness checks every attack."""
    for trial in _each(subject):
        try:
            trial.threat.check(trial.made, trial.x)
        except Exception as error:  # noqa: BLE001 -- the line says which norm
            yield f"{trial}: {error}"


@check("repeatable", "The same stream gives the same images")
def repeatable(subject: Subject) -> Iterator[str]:
    """Bitwise, on one device."""
    for trial in _each(subject):
        if not all(torch.equal(trial.made, trial.run()) for _ in range(2)):
            yield f"{trial}: gives other images when run again with the same stream"


@check("own-stream", "Random numbers come from the stream `rng` alone")
def own_stream(subject: Subject) -> Iterator[str]:
    """The global generators must not change."""
    draws = GlobalDraws()
    trial = _each(subject)[0]
    with draws.watch():
        trial.run()
    yield from draws.faults()


@check("batch-split", "An image's result does not depend on which others are in the batch")
def batch_split(subject: Subject) -> Iterator[str]:
    """The batch in two parts of different size."""
    for trial in _each(subject):
        parts = torch.cat([trial.run(slice(0, 2)), trial.run(slice(2, None))])
        if parts.shape != trial.made.shape or not torch.allclose(trial.made, parts, atol=1e-4):
            yield f"{trial}: an image's result depends on the other images of the batch"


@check("batch-order", "An image's result does not depend on its place in the batch")
def batch_order(subject: Subject) -> Iterator[str]:
    """The batch in reverse order."""
    for trial in _each(subject):
        order = torch.arange(len(trial.x)).flip(0)
        if not torch.allclose(trial.made, trial.run(order)[order], atol=1e-4):
            yield f"{trial}: an image's result depends on its place in the batch"


@check("inputs-unmodified", "Images, labels and the target model's weights stay as they were")
def inputs_unmodified(subject: Subject) -> Iterator[str]:
    """In-place changes would affect the next attack."""
    trial = _each(subject)[0]
    x, y = trial.x.clone(), trial.y.clone()
    watched = Unmodified(images=x, labels=y)
    watched.add("target model", trial.target)
    trial.attack.run(trial.target, x, y, trial.threat, Budget(), trial.rng[:])
    yield from watched.faults()


@check("lets-the-budget-through", "Once the budget is spent, the attack lets `BudgetExceeded` propagate")
def lets_the_budget_through(subject: Subject) -> Iterator[str]:
    """The harness raises it in the middle of a call, and uses the best image among the queries."""
    if _access(subject) == "none":
        raise NotApplicable("it does not query the model")
    for trial in _each(subject):
        limited = Limited(trial.target, calls=2)
        try:
            trial.run(target=limited)
        except BudgetExceeded:
            continue
        if limited.raised:
            yield f"{trial}: catches BudgetExceeded and continues"


@check("sees-what-it-says", "It uses no more than its declared access: gradient, scores, decision or none")
def sees_what_it_says(subject: Subject) -> Iterator[str]:
    """With access decision, the result must not depend on scores; with access none, the model is not queried."""
    access = _access(subject)
    if access not in ("decision", "none"):
        raise NotApplicable(
            f"access is {access}: it ran on such a target model"
        )  # without gradients, unless it needs them
    for trial in _each(subject):
        if access == "none":
            limited = Limited(trial.target, calls=0)
            with suppress(BudgetExceeded):
                trial.run(target=limited)
            if limited.raised:
                yield f"{trial}: access is none, but it queries the target model"
        elif not torch.allclose(trial.made, trial.run(target=Decisions(trial.target)), atol=1e-4):
            yield f"{trial}: access is decision, but the result depends on the scores"


@check("raises-the-loss", "The loss of its images is no lower than that of the clean images")
def raises_the_loss(subject: Subject) -> Iterator[str]:
    """On a linear classifier."""
    if _access(subject) == "none":
        raise NotApplicable("a control does not use the model")
    for trial in _each(subject):
        with torch.no_grad():
            clean, attacked = (F.cross_entropy(trial.target(x), trial.y) for x in (trial.x, trial.made))
        if attacked < clean - 1e-6:
            yield f"{trial}: the loss falls from {clean:.4g} to {attacked:.4g}; does it follow the gradient downhill?"


class Limited(TargetModel):
    """Answers ``calls`` queries, then raises as the harness does."""

    def __init__(self, inner: TargetModel, calls: int) -> None:
        super().__init__()
        self.inner, self.left, self.raised = inner, calls, False

    def forward(self, x: Tensor) -> Tensor:
        """Logits, until the calls are used up."""
        if self.left == 0:
            self.raised = True
            raise BudgetExceeded("the attack exceeds its budget")
        self.left -= 1
        logits: Tensor = self.inner(x)
        return logits

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> list[Tensor]:
        """Those of the model inside."""
        return self.inner.features(x, layers)

    def clean_features(self, layers: Sequence[str] = ()) -> tuple[list[Tensor], Tensor]:
        """Those of the model inside."""
        return self.inner.clean_features(layers)


class Decisions(TargetModel):
    """The same decisions, without scores."""

    def __init__(self, inner: TargetModel) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Logits 5 and 0."""
        logits: Tensor = self.inner(x)
        return 5.0 * F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


@check(other_device.NAME, other_device.ABOUT)
def on_other_device(subject: Subject) -> Iterator[str]:
    """Under every norm, and with the same images as on the CPU."""
    for trial in _each(subject):
        with PretendDevice() as device, torch.random.fork_rng(devices=[]):
            x, y, target = trial.x.to(device.device), trial.y.to(device.device), other_device.moved(trial.target)
            made = replace(trial, target=target, x=x, y=y, rng=other_device.moved_stream(trial.rng)).run()
            faults = list(like(made, x, tuple(x.shape), "the result"))
            found = made.cpu()
        yield from (f"{trial}: {fault}" for fault in faults)
        if not faults and not torch.allclose(found, trial.made, atol=1e-4):
            yield f"{trial}: gives other images there, though values are the same"
