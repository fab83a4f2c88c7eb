"""Checks that hold for every plugin: specs load, targets import, and components keep their contract on toy input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from robustbench_med.components import load_target, resolve
from robustbench_med.errors import UsageError
from robustbench_med.interfaces import Classifier, Recipe, System
from robustbench_med.learning.pictures import rows_of
from robustbench_med.rate import Rate
from robustbench_med.registry import Entry, Plugin, Registry
from robustbench_med.specs import AttackSpec, DatasetSpec
from robustbench_med.streams import Stream
from robustbench_med.testing.learning import SIZE, learning_faults, seeded
from robustbench_med.testing.toys import ToyClassifier, ToyPurifier, toy_images, toy_outcome, toy_surface
from robustbench_med.threat import Budget, ThreatModel


def check_plugin(plugin: str | ModuleType) -> None:
    """Check everything that an installed distribution, or an imported plugin module, offers.

    Strategies and reports are imported and built; data sets too, and their card is read unless they need the user's
    images. The other kinds also run: attacks must stay in the ball and in [0, 1], repeat exactly from the same stream,
    treat each image alone and leave torch's global generator untouched; detectors and purifiers likewise, after a step
    of the training that they define.

    Raises:
        AssertionError: with one line per fault.
    """
    found = faults(plugin)
    if found:
        raise AssertionError("\n".join(found))


def faults(plugin: str | ModuleType) -> list[str]:
    """What `check_plugin` would complain about."""
    if isinstance(plugin, ModuleType):
        name = plugin.__name__
        registry = Registry(only=())
        registry.add(plugin, Plugin(name, name, "0"))
        registry_of_parts = Registry()
    else:
        name = plugin
        registry = registry_of_parts = Registry(only=[plugin])
        if not registry.broken:
            registry_of_parts = Registry()
    lines = [str(broken) for broken in registry.broken]
    entries = registry.entries()
    if not entries and not lines:
        lines.append(f"{name} offers nothing")
    for entry in entries:
        try:
            lines += [f"{entry}: {fault}" for fault in _check(registry_of_parts, entry)]
        except UsageError as error:
            lines.append(str(error))
        except Exception as error:  # noqa: BLE001 -- whatever a plugin raises is a fault to list
            lines.append(f"{entry}: {type(error).__name__}: {error}")
    return lines


def _check(registry: Registry, entry: Entry) -> Iterator[str]:
    cls = load_target(entry)
    if not entry.spec.summary or "\n" in entry.spec.summary:
        yield "the spec's summary must be one line"
    required = [name for name, info in cls.Params.model_fields.items() if info.is_required()]
    if required:
        yield f"parameters without a default cannot be tried: {', '.join(required)}"
        return
    check: Callable[[Registry, Entry, Any], Iterator[str]] | None = _CHECKS.get(entry.spec.kind)
    component = cls()
    if check is not None:
        yield from check(registry, entry, component)


def _attack(registry: Registry, entry: Entry, attack: Any) -> Iterator[str]:
    spec = entry.spec
    assert isinstance(spec, AttackSpec)
    if not spec.norms:
        yield "an attack must know at least one norm"
        return
    for norm in spec.norms:
        threat = ThreatModel(norm=norm, eps=0.1 if norm == "linf" else 0.5)
        refused = []
        for classes in (2, 4):
            try:
                for fault in _attack_runs(attack, threat, classes, spec.access == "gradient"):
                    yield f"{norm}, {classes} classes: {fault}"
            except UsageError as error:  # an attack may need more classes, and say so
                refused.append(str(error))
        if len(refused) == 2:
            yield f"{norm}: runs neither with 2 nor with 4 classes: {refused[0]}"


def _attack_runs(attack: Any, threat: ThreatModel, classes: int, gradients: bool) -> Iterator[str]:
    surface = toy_surface(classes, gradients=gradients)
    x, rng = toy_images()
    y = surface(x).argmax(1).detach()

    def run(part: slice) -> Tensor:
        made: Tensor = attack.run(surface, x[part].clone(), y[part], threat, Budget(), rng[part])
        return made.detach()

    state = torch.get_rng_state()
    first = run(slice(None))
    if not torch.equal(state, torch.get_rng_state()):
        yield "draws from torch's global generator; use the stream `rng`"
    threat.check(first, x)
    if not torch.equal(first, run(slice(None))):
        yield "gives other images when run again with the same stream"
    if not torch.allclose(first, torch.cat([run(slice(0, 2)), run(slice(2, None))]), atol=1e-4):
        yield "an image's result depends on the other images of the batch"


def _detector(registry: Registry, entry: Entry, detector: Any) -> Iterator[str]:
    x, rng = toy_images(4, size=SIZE)
    system = System(ToyClassifier(size=SIZE).eval(), ToyPurifier())
    yield from learning_faults(detector, system)

    def score(part: slice, rng: Stream = rng) -> Tensor:
        scores: Tensor = detector.score(x[part], system, rng[part])
        return scores

    yield from _deterministic(detector, score, (4,))
    yield from _follows_stream(detector, score, rng)
    errors = rows_of(detector, x[:1], system, rng[:1]).get("error map")
    if errors is not None and errors.min() < 0:
        yield f"error_map goes down to {float(errors.min()):.4g}; it must be 0 or more"


def _purifier(registry: Registry, entry: Entry, purifier: Any) -> Iterator[str]:
    x, rng = toy_images(4, size=SIZE)
    system = System(ToyClassifier(size=SIZE).eval())
    yield from learning_faults(purifier, system)
    strength = torch.linspace(0.1, 0.9, 4)

    def copies(part: slice, rng: Stream = rng) -> Tensor:
        made: Tensor = purifier.copies(x[part], strength[part], rng[part])
        return made

    votes = purifier.votes
    found = _deterministic(purifier, copies, (4, votes, *x.shape[1:]))
    yield from found
    if any(line.startswith("returns shape") for line in found):
        return
    yield from _follows_stream(purifier, copies, rng)
    with torch.no_grad():
        pure, every = purifier.purify(x, strength, rng[:]), copies(slice(None))
    if pure.shape != x.shape:
        yield f"purify returns shape {tuple(pure.shape)}, not {tuple(x.shape)}"
    low, high = min(float(pure.min()), float(every.min())), max(float(pure.max()), float(every.max()))
    if low < 0 or high > 1:
        yield f"purified images span [{low:.4g}, {high:.4g}], outside [0, 1]"
    joined = purifier.join(torch.randn(4, votes, 2, generator=torch.Generator().manual_seed(0)))
    if joined.shape != (4, 2) or not joined.isfinite().all():
        yield f"join makes {tuple(joined.shape)} of the logits (4, {votes}, 2), or values that are not finite"
    if purifier.differentiable:
        one = x[:1].clone().requires_grad_()
        if not purifier.purify(one, strength[:1], rng[:1]).requires_grad:
            yield "purify gives no gradient in the images; say so with differentiable = False"
    rows_of(purifier, x[:1], system, rng[:1])


def _follows_stream(part: Any, run: Callable[..., Tensor], rng: Stream) -> list[str]:
    """Whether a part that calls itself deterministic is."""
    if part.stochastic:
        return []
    with torch.no_grad():
        same = torch.equal(run(slice(None)), run(slice(None), rng.fork("another")))
    return [] if same else ["says stochastic = False, and its result follows the stream"]


def _model(registry: Registry, entry: Entry, model: Any) -> Iterator[str]:
    for classes, channels in ((2, 1), (4, 3)):
        x, _ = toy_images(4, channels, SIZE)
        classifier = seeded(partial(model.build, classes, channels, SIZE))

        def run(part: slice, classifier: Classifier = classifier, x: Tensor = x) -> Tensor:
            logits: Tensor = classifier(x[part])
            return logits

        yield from _deterministic(classifier, run, (4, classes))


@torch.no_grad()
def _deterministic(module: Any, run: Callable[[slice], Tensor], shape: tuple[int, ...]) -> list[str]:
    """Shape, finiteness, repeatability and independence of the batch."""
    module.eval()
    state = torch.get_rng_state()
    first = run(slice(None))
    lines = []
    if not torch.equal(state, torch.get_rng_state()):
        lines.append("draws from torch's global generator; use the stream `rng`")
    if tuple(first.shape) != tuple(shape):
        return [*lines, f"returns shape {tuple(first.shape)}, not {tuple(shape)}"]
    if not first.isfinite().all():
        lines.append("returns values that are not finite")
    if not torch.equal(first, run(slice(None))):
        lines.append("gives another result when run again with the same stream")
    # Untrained networks in bfloat16 amplify rounding; mixing images moves results by far more than 2 % of their spread.
    apart = (torch.cat([run(slice(0, 1)), run(slice(1, None))]) - first).abs().mean()
    if apart > 0.02 * first.std() + 1e-6:
        lines.append("an image's result depends on the other images of the batch")
    return lines


def _dataset(registry: Registry, entry: Entry, dataset: Any) -> Iterator[str]:
    spec = entry.spec
    assert isinstance(spec, DatasetSpec)
    if spec.needs_root:
        return
    card = dataset.card()
    if card.name != spec.name or card.synthetic != spec.synthetic:
        yield f"card says {card.name!r}, synthetic={card.synthetic}; the spec {spec.name!r}, synthetic={spec.synthetic}"
    if len(card.classes) < 2:
        yield "has fewer than two classes"


def _defense(registry: Registry, entry: Entry, defense: Any) -> Iterator[str]:
    recipe = defense.recipe()
    if not isinstance(recipe, Recipe):
        yield f"recipe() returns a {type(recipe).__name__}"
        return
    for kind in ("model", "strategy", "detector", "purifier"):
        if (ref := getattr(recipe, kind)) is not None:
            try:
                resolve(registry, kind, ref)
            except UsageError as error:
                yield str(error)


def _metric(registry: Registry, entry: Entry, metric: Any) -> Iterator[str]:
    for outcome in (toy_outcome(), toy_outcome(detector=False)):
        figures = metric.compute(outcome)
        wrong = [name for name, value in figures.items() if not isinstance(value, float | int | Rate | None)]
        if wrong:
            yield f"figures must be numbers, None or Rate: {', '.join(wrong)}"


_CHECKS: dict[str, Callable[[Registry, Entry, Any], Iterator[str]]] = {
    "attack": _attack, "detector": _detector, "purifier": _purifier, "model": _model, "dataset": _dataset,
    "defense": _defense, "metric": _metric,
}  # fmt: skip
