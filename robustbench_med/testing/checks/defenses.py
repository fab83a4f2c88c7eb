"""Checks of a defense: its recipe, parts and weights."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator

from robustbench_med.defenses.resolved import resolve_defense
from robustbench_med.errors import UsageError
from robustbench_med.interfaces.defense import Recipe
from robustbench_med.plugins.components import resolve
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.specs import DefenseSpec
from robustbench_med.testing.checking import Checks, NotApplicable, Subject

check = Checks()


def _recipe(subject: Subject) -> Recipe:
    recipe: Recipe = subject.once("recipe", lambda: subject.build().recipe())
    return recipe


@check("recipe", "It names a model and a strategy, and its gate can be set")
def recipe(subject: Subject) -> Iterator[str]:
    """A `Recipe`."""
    found = _recipe(subject)
    if not isinstance(found, Recipe):
        yield f"recipe() returns a {type(found).__name__}"
        return
    for kind in ("model", "strategy", "detector", "purifier"):
        part = getattr(found, kind)
        if not isinstance(part, PartRef) and not (part is None and kind in ("detector", "purifier")):
            yield f"{kind} must be a PartRef, not {part!r}"
    if not 0 < found.fpr < 1:
        yield f"fpr={found.fpr} is not between 0 and 1"
    if found.strength is not None and not 0 <= found.strength <= 1:
        yield f"strength={found.strength} is not in [0, 1]"


@check("parts-found", "Its parts are found, and accept the parameters in the recipe")
def parts_found(subject: Subject) -> Iterator[str]:
    """Whichever plugins they come from."""
    found = _recipe(subject)
    known = True
    for kind in ("model", "strategy", "detector", "purifier"):
        if isinstance(part := getattr(found, kind, None), PartRef):
            try:
                resolve(subject.parts, kind, part)
            except UsageError as error:
                known = False
                yield str(error)
    if known and any(entry.qualified == subject.entry.qualified for entry in subject.parts.entries("defense")):
        resolve_defense(subject.parts, subject.ref)


@check("same-again", "It returns the same recipe every time")
def same_again(subject: Subject) -> Iterator[str]:
    """The recipe depends on the parameters only."""
    defense = subject.build()
    if defense.recipe() != defense.recipe():
        yield "returns another recipe the second time"


@check("weights", "The weights that it declares exist")
def weights(subject: Subject) -> Iterator[str]:
    """As `package:folder`, a folder for each data set."""
    spec = subject.entry.spec
    assert isinstance(spec, DefenseSpec)
    if not spec.weights:
        raise NotApplicable("it ships no weights")
    package, _, folder = spec.weights.partition(":")
    place = importlib.resources.files(package) / folder
    if not (folder and place.is_dir()):
        yield f"weights={spec.weights!r} is not a folder; write package:folder"
