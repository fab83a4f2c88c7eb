"""A defense made concrete: its recipe resolved into components with validated parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from robustbench_med.defenses.gate_revision import GATE_REVISION
from robustbench_med.errors import BadParameter
from robustbench_med.interfaces.component import Component
from robustbench_med.interfaces.dataset import DataCard
from robustbench_med.interfaces.defense import Detector, Part, Purifier, Recipe
from robustbench_med.interfaces.training import Model, Strategy
from robustbench_med.plugins.calls import process_kept
from robustbench_med.plugins.components import all_params, create
from robustbench_med.plugins.entries import load_target
from robustbench_med.plugins.references import FIRST, PartRef, format_ref, parse

if TYPE_CHECKING:
    from robustbench_med.interfaces.defense import Defense
    from robustbench_med.plugins.entries import RegistryEntry
    from robustbench_med.plugins.registry import Registry


def key_of(facts: Any) -> str:
    """A 16-digit hex key of JSON-serialisable facts."""
    return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def trained_params(component: Component) -> dict[str, Any]:
    """The parameters that the trained weights depend on: all of `told_params` but those marked ``runtime``.

    ``training`` names a strategy, whose own parameters say more than its text.
    """
    return {
        name: value
        for name, value in told_params(component).items()
        if name != "training" and not _marks(component, name).get("runtime")
    }


def told_params(component: Component) -> dict[str, Any]:
    """All parameters, as records and keys have them.

    A parameter marked ``later`` was added after weights and records had been published, and counts where it has another
    value than its default, so that these keep their keys.
    """
    fields = type(component.params).model_fields
    return {
        name: value
        for name, value in all_params(component.params).items()
        if not (_marks(component, name).get("later") and value == fields[name].default)
    }


def _marks(component: Component, name: str) -> dict[str, Any]:
    found = type(component.params).model_fields[name].json_schema_extra
    return dict(found) if isinstance(found, dict) else {}


def learns(part: Part) -> bool:
    """A strategy trains the part over all clients."""
    return type(part).learner is not Part.learner


def fits(part: Part) -> bool:
    """Each client fits the part on its own images."""
    return type(part).fit is not Part.fit


def leaves(part: Part | None) -> Iterator[Part]:
    """The parts that hold weights: the part itself, or those that it wraps."""
    if part is None:
        return
    if inner := part.inner():
        for each in inner:
            yield from leaves(each)
    elif learns(part) or fits(part):
        yield part


@dataclass(frozen=True)
class ResolvedDefense:
    """A defense's parts, untrained.

    Attributes:
        entry: where the defense comes from.
        defense: the recipe's author, with its parameters.
        recipe: the names of the parts.
        model, strategy, detector, purifier: the components.
        revisions: spec revision of every part, by kind.
        training: the strategy that trains each part of `learned`, where one does.
    """

    entry: RegistryEntry
    defense: Defense
    recipe: Recipe
    model: Model
    strategy: Strategy
    detector: Detector | None
    purifier: Purifier | None
    revisions: dict[str, int]
    training: dict[str, Strategy] = field(default_factory=dict)

    def parts(self) -> dict[str, Component]:
        """The components by kind, absent ones left out."""
        parts = {kind: getattr(self, kind) for kind in ("model", "strategy", "detector", "purifier")}
        return {kind: part for kind, part in parts.items() if part is not None}

    @property
    def bare(self) -> bool:
        """There is nothing besides the classifier."""
        return self.detector is None and self.purifier is None

    def describe(self) -> dict[str, Any]:
        """Names and all parameters of the parts, for records."""
        names = {kind: ref.name for kind in self.parts() if (ref := getattr(self.recipe, kind)) is not None}
        parts = {
            kind: {"name": names[kind], "params": told_params(part), "revision": self.revisions[kind]}
            for kind, part in self.parts().items()
        }
        return {**parts, "fpr": self.recipe.fpr}

    def describe_deployed(self) -> dict[str, Any]:
        """As `describe`, with the strength of purification and the revision of the rule that fixes gates."""
        gate = {} if self.detector is None else {"gate_revision": GATE_REVISION}
        return {**self.describe(), "strength": self.recipe.strength, **gate}

    def learned(self) -> dict[str, Part]:
        """The parts with weights besides the classifier, in the order of their training.

        They are called ``purifier`` and ``detector``; where a wrapper holds several, the next is ``purifier-2``.
        """
        found: dict[str, Part] = {}
        for kind, part in (("purifier", self.purifier), ("detector", self.detector)):
            found |= {f"{kind}-{n}" if n > 1 else kind: leaf for n, leaf in enumerate(leaves(part), 1)}
        return found

    def training_keys(self, card: DataCard) -> dict[str, str]:
        """Per trained part, a key that changes whenever its weights would: parameters, revision, data, what it needs.

        A part without weights of its own (a control, a filter) has no key, so it can be swapped in at any time.
        """
        named = {
            kind: [getattr(self.recipe, kind).name, trained_params(getattr(self, kind)), self.revisions[kind]]
            for kind in ("model", "strategy")
        }
        keys = {"classifier": key_of([named["model"], named["strategy"], card.digest])}
        for name, part in self.learned().items():
            shared = self.shared_key(name, card, keys)
            own = [part.spec_name, part.spec_revision, trained_params(part)]
            fitted = key_of([shared, own, card.digest, [keys[need] for need in part.needs]])
            keys[name] = fitted if shared is None or fits(part) else shared
        return keys

    def shared_key(self, name: str, card: DataCard, before: Mapping[str, str] | None = None) -> str | None:
        """The key of what a strategy trains of a part, the same for a whole family; None where none does.

        ``before`` has the keys of the parts that are trained earlier.
        """
        part = self.learned().get(name)
        if part is None or not learns(part):
            return None
        keys = self.training_keys(card) if before is None and part.needs else (before or {})
        strategy = self.training[name]
        who = [strategy.spec_name, trained_params(strategy), strategy.spec_revision]
        what = [part.family or [part.spec_name, part.spec_revision], trained_params(part)]
        return key_of([what, card.digest, who, [keys[need] for need in part.needs]])


def resolve_defense(
    registry: Registry,
    ref: PartRef,
    model: PartRef | None = None,
    strategy: PartRef | None = None,
    options: Mapping[str, str] | None = None,
) -> ResolvedDefense:
    """Resolve the defense ``ref``; ``model`` and ``strategy`` replace the recipe's own.

    A model that comes with weights names its strategy itself, unless one is given, here or in ``ref``. ``options`` are
    parameters of whichever strategy it then is; they win over what the recipe or ``strategy`` says.

    Raises:
        UnknownName, AmbiguousName, BadParameter: a reference is wrong, the strategy does not know an option, or one
            thing is asked for twice, and differently.
    """
    entry = registry.find("defense", ref.name)
    defense: Defense = create(registry, "defense", ref)
    with process_kept():
        recipe = checked_recipe(defense.recipe(), f"{entry}")
    named = _named_parts(ref, defense, recipe)
    _check_asked_once(ref, named, {"model": model, "strategy": strategy}, options or {})
    made: Model = create(registry, "model", model or recipe.model)
    own = PartRef(made.strategy) if model and made.strategy and "strategy" not in named else recipe.strategy
    trained_by = _with_options(registry, strategy or own, options or {})
    recipe = replace(recipe, model=model or recipe.model, strategy=trained_by)
    wanted = {"strategy": recipe.strategy, "detector": recipe.detector, "purifier": recipe.purifier}
    parts = {"model": made} | {kind: create(registry, kind, part) if part else None for kind, part in wanted.items()}
    revisions = {kind: part.spec_revision for kind, part in parts.items() if part is not None}
    resolved = ResolvedDefense(
        entry=entry, defense=defense, recipe=recipe, revisions=revisions, **cast("dict[str, Any]", parts)
    )
    for name, part in resolved.learned().items():
        if learns(part):
            resolved.training[name] = _trainer(registry, part, options or {})
    return resolved


def _named_parts(ref: PartRef, defense: Defense, recipe: Recipe) -> dict[str, PartRef]:
    """The model and the strategy that the defense's own reference names.

    A parameter of that name may mean something else, such as a way to vote, or that the recipe chooses.
    """
    given = _by_name(ref, type(defense.params).model_fields)
    found = {}
    for kind, used in (("model", recipe.model), ("strategy", recipe.strategy)):
        with suppress(BadParameter):
            if kind in given and (part := parse(str(given[kind]))).name == used.name:
                found[kind] = part
    return found


def _check_asked_once(
    ref: PartRef, named: Mapping[str, PartRef], replaced: Mapping[str, PartRef | None], options: Mapping[str, str]
) -> None:
    """Refuse options that replace the parts which the reference ``named``: tables would show the latter.

    What runs the federation, its ``engine``, is no part of what is measured.
    """
    for kind, given in replaced.items():
        own = named.get(kind)
        if given is not None and own is not None and own != given:
            told = f"{kind}=[{format_ref(own)}] of defense {ref.name!r}"
            raise BadParameter(f"--{kind} {format_ref(given)} and {told} differ; give one of them")
    params = named["strategy"].params if "strategy" in named else {}
    for name, value in options.items():
        text = None if name == "engine" else params.get(name)
        if text is not None and parse(str(text)) != parse(value):
            raise BadParameter(f"--{name} {value} and {name}=[{text}] of defense {ref.name!r} differ; give one of them")


def checked_recipe(recipe: Any, label: str) -> Recipe:
    """The recipe, as it is.

    Raises:
        BadParameter: it is none, or holds something else than references and shares.
    """
    if not isinstance(recipe, Recipe):
        raise BadParameter(f"{label}: its recipe is a {type(recipe).__name__}, not a Recipe")
    for name in ("model", "strategy", "detector", "purifier"):
        part = getattr(recipe, name)
        if not isinstance(part, PartRef) and (part is not None or name in ("model", "strategy")):
            raise BadParameter(f"{label}: its recipe has {name}={part!r:.80}; valid: rbmed.PartRef or rbmed.parse(...)")
    if not (_number(recipe.fpr) and 0 < recipe.fpr < 1):
        raise BadParameter(f"{label}: its recipe has fpr={recipe.fpr!r:.80}; valid: a number > 0, < 1")
    if recipe.strength is not None and not (_number(recipe.strength) and 0 <= recipe.strength <= 1):
        raise BadParameter(f"{label}: its recipe has strength={recipe.strength!r:.80}; valid: None, or from 0 to 1")
    return recipe


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _trainer(registry: Registry, part: Part, options: Mapping[str, str]) -> Strategy:
    """The strategy that a part's parameter ``training`` names; of the options, it takes the engine if it knows it.

    Raises:
        BadParameter: it trains classifiers only.
    """
    ref = parse(part.params.training)
    known = load_target(registry.find("strategy", ref.name)).Params.model_fields
    engine = {name: text for name, text in options.items() if name == "engine" and name in known}
    strategy: Strategy = create(registry, "strategy", _with_options(registry, ref, engine))
    if type(strategy).classifier is not Strategy.classifier:
        raise BadParameter(f"{part.spec_name}: training={ref.name} combines several classifiers; use fedavg or local")
    return strategy


def _with_options(registry: Registry, ref: PartRef, options: Mapping[str, str]) -> PartRef:
    """The strategy with these parameters besides its own."""
    if not options:
        return ref
    entry = registry.find("strategy", ref.name)
    fields = load_target(entry).Params.model_fields
    for name, value in options.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise BadParameter(f"--{name} {value}: {entry} has no parameter {name!r}; its parameters: {known}")
    return PartRef(ref.name, {**_by_name(ref, fields), **options})


def _by_name(ref: PartRef, fields: Iterable[str]) -> dict[str, Any]:
    """The parameters of a reference by name: a value without a key is that of the first of ``fields``."""
    return {next(iter(fields), "") if name == FIRST else name: value for name, value in ref.params.items()}
