"""Checks of an architecture and of the classifiers that it builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from robustbench_med.errors import NotDefined
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.training import Classifier, Model
from robustbench_med.testing import other_device
from robustbench_med.testing.checking import Checks, NotApplicable, Subject
from robustbench_med.testing.part_training import SIZE, seeded
from robustbench_med.testing.pretend.device import PretendDevice
from robustbench_med.testing.side_effects import GlobalDraws, Unmodified, far, like, states_differ
from robustbench_med.testing.toys import toy_images

check = Checks()


@dataclass(frozen=True)
class Built:
    """A classifier and toy images for it."""

    model: Model
    classifier: Classifier
    classes: int
    channels: int
    x: Tensor

    def fresh(self) -> Classifier:
        """Another one, built from the same seed."""
        made: Classifier = seeded(partial(self.model.build, self.classes, self.channels, SIZE))
        return made.eval()

    def __str__(self) -> str:
        return f"{self.classes} classes, {plural(self.channels, 'channel')}"


def _built(subject: Subject) -> list[Built]:
    """For two classes on grey images, and for four on coloured ones."""

    def make() -> list[Built]:
        model: Model = subject.build()
        made = []
        for classes, channels in ((2, 1), (4, 3)):
            classifier: Classifier = seeded(partial(model.build, classes, channels, SIZE))
            made.append(Built(model, classifier.eval(), classes, channels, toy_images(4, channels, SIZE)[0]))
        return made

    return subject.once("built", make)


@check("classifies", "It builds a `Classifier` that gives finite logits")
@torch.no_grad()
def classifies(subject: Subject) -> Iterator[str]:
    """(N, K), for any number of classes and channels."""
    for built in _built(subject):
        if not isinstance(built.classifier, Classifier):
            yield f"build returns a {type(built.classifier).__name__}, not a robustbench_med.Classifier"
            return
        logits = built.classifier(built.x)
        faults = list(like(logits, built.x, (4, built.classes), "the answer"))
        yield from (f"{built}: {fault}" for fault in faults)
        if not faults and not logits.isfinite().all():
            yield f"{built}: returns values that are not finite"


@check("logits", "Its answers are logits, not probabilities")
@torch.no_grad()
def gives_logits(subject: Subject) -> Iterator[str]:
    """Attacks apply the softmax themselves."""
    for built in _built(subject):
        logits = built.classifier(built.x)
        if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-4).all():
            yield f"{built}: returns probabilities; remove the softmax"


@check("repeatable", "The same images give the same logits, unless it declares that it is stochastic")
@torch.no_grad()
def repeatable(subject: Subject) -> Iterator[str]:
    """And the same seed the same weights."""
    for built in _built(subject):
        if built.classifier.stochastic:
            raise NotApplicable("it is stochastic")
        draws = GlobalDraws()
        with draws.watch():
            first, again = built.classifier(built.x), built.classifier(built.x)
        if not torch.equal(first, again):
            yield f"{built}: gives another result when run again; declare stochastic = True"
        yield from draws.faults()
        if changed := states_differ(built.classifier.state_dict(), built.fresh().state_dict()):
            yield f"{built}: initial weights do not depend on torch's seed alone: {', '.join(changed[:3])}"


@check("batch-split", "An image's logits do not depend on which others are in the batch")
@torch.no_grad()
def batch_split(subject: Subject) -> Iterator[str]:
    """The batch in two parts of different size."""
    for built in _of_one_answer(subject):
        apart = torch.cat([built.classifier(built.x[:1]), built.classifier(built.x[1:])])
        if far(apart, built.classifier(built.x)):
            yield f"{built}: an image's result depends on the other images of the batch"


@check("batch-order", "An image's logits do not depend on its place in the batch")
@torch.no_grad()
def batch_order(subject: Subject) -> Iterator[str]:
    """The batch in reverse order."""
    for built in _of_one_answer(subject):
        if far(built.classifier(built.x.flip(0)).flip(0), built.classifier(built.x)):
            yield f"{built}: an image's result depends on its place in the batch"


def _of_one_answer(subject: Subject) -> list[Built]:
    if any(built.classifier.stochastic for built in _built(subject)):
        raise NotApplicable("it is stochastic")
    return _built(subject)


@check("inputs-unmodified", "Images and weights stay as they were")
@torch.no_grad()
def inputs_unmodified(subject: Subject) -> Iterator[str]:
    """In a forward pass."""
    for built in _built(subject):
        x = built.x.clone()
        watched = Unmodified(images=x)
        watched.add("own", built.classifier)
        built.classifier(x)
        yield from watched.faults()


@check("learns", "Its loss is one finite number with a finite gradient in every parameter and in the images")
def learns(subject: Subject) -> Iterator[str]:
    """In training mode."""
    for built in _built(subject):
        classifier = built.fresh().train()
        x = built.x.clone().requires_grad_()
        loss = seeded(partial(classifier.loss, x, torch.arange(4) % built.classes))
        if loss.shape or not loss.isfinite():
            yield f"{built}: the loss must be one finite number, not {loss.detach().flatten()[:3].tolist()}"
            continue
        if not loss.requires_grad:
            yield f"{built}: the loss has no gradient"
            continue
        loss.backward()
        weights = {name: weight for name, weight in classifier.named_parameters() if weight.requires_grad}
        if idle := [name for name, weight in weights.items() if weight.grad is None]:
            yield f"{built}: the loss gives no gradient to {', '.join(idle[:3])}"
        if x.grad is None:
            yield f"{built}: the loss has no gradient in the images"
        wild = [
            name
            for name, w in [*weights.items(), ("the images", x)]
            if w.grad is not None and not w.grad.isfinite().all()
        ]
        if wild:
            yield f"{built}: gradients are not finite: {', '.join(wild[:3])}"


@check("state-names", "`personal` and `heads` are beginnings of names in its state")
def state_names(subject: Subject) -> Iterator[str]:
    """Strategies use them."""
    for built in _built(subject):
        names = list(built.classifier.state_dict())
        for prefix in (*built.classifier.personal, *built.classifier.heads):
            if not any(name.startswith(prefix) for name in names):
                yield f"{built}: no entry of its state begins with {prefix!r}"


@check("features", "If it has features: finite, one row per image")
@torch.no_grad()
def features(subject: Subject) -> Iterator[str]:
    """(N, F), for detectors that use them."""
    for built in _built(subject):
        try:
            found = built.classifier.embed(built.x)
        except NotDefined as error:
            raise NotApplicable("it has no features") from error
        if found.dim() != 2 or len(found) != 4 or not found.isfinite().all():
            yield f"{built}: embed returns shape {tuple(found.shape)}, not (4, F), or values that are not finite"


@check("survives-saving", "It gives the same logits after its state was saved and loaded")
@torch.no_grad()
def survives_saving(subject: Subject) -> Iterator[str]:
    """Into a fresh one of other initial weights."""
    for built in _of_one_answer(subject):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            fresh = built.model.build(built.classes, built.channels, SIZE).eval()
        fresh.load_state_dict(built.classifier.state_dict())
        if not torch.equal(fresh(built.x), built.classifier(built.x)):
            yield f"{built}: gives other results after its state was saved and loaded"


@check(other_device.NAME, other_device.ABOUT)
def on_other_device(subject: Subject) -> Iterator[str]:
    """Its loss, its logits and, if it has any, its features."""
    built = _built(subject)[0]
    with PretendDevice():
        images, labels = built.x.to(other_device.DEVICE), (torch.arange(4) % built.classes).to(other_device.DEVICE)
        seeded(partial(other_device.moved(built.fresh()).train().loss, images, labels)).backward()
    if built.classifier.stochastic:
        return
    yield from other_device.answer_faults(built.classifier, built.x, lambda net, x: net(x))
    try:
        yield from other_device.answer_faults(built.classifier, built.x, _embed)
    except NotDefined:
        return


def _embed(classifier: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(classifier, Classifier)
    return classifier.embed(x)
