"""From states to modules: the classifier, the detector and the purifier of one client, filled with trained weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from robustbench_med.defenses.artifact import load_state, part_of, personal
from robustbench_med.defenses.findings import Around
from robustbench_med.defenses.interface_checks import checked_logits
from robustbench_med.defenses.resolved import ResolvedDefense, fits, leaves
from robustbench_med.errors import BadParameter, HarnessError, UsageError, WeightsError
from robustbench_med.interfaces.dataset import DataCard
from robustbench_med.interfaces.defense import Detector, Part, Purifier, System
from robustbench_med.interfaces.plural import plural
from robustbench_med.interfaces.training import Classifier, Model
from robustbench_med.plugins.calls import named, process_kept
from robustbench_med.runtime.isolation import isolated

M = TypeVar("M", bound=nn.Module)


class States(Protocol):
    """Where states are read from, such as an `Artifact`."""

    @property
    def folder(self) -> Path:
        """Where the files are, for messages."""

    def state(self, name: str) -> dict[str, Tensor]:
        """The state in the file ``name`` (without suffix)."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""


class PartFolders:
    """States of parts that lie in a folder each.

    Args:
        folders: by part.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = dict(folders)

    @property
    def folder(self) -> Path:
        """The folder that holds those of the parts."""
        return next(iter(self.folders.values())).parent

    def state(self, name: str) -> dict[str, Tensor]:
        """The state in the file ``name`` of its part's folder."""
        return load_state(self._path(name))

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._path(name).is_file()

    def _path(self, name: str) -> Path:
        return self.folders[part_of(name)] / f"{name}.safetensors"


class PartBuilder:
    """Builds a client's parts.

    Args:
        resolved: the defense's parts, untrained; copies of them are filled.
        card: of the data set.
        states: the trained weights.
        device: where the modules live.
    """

    def __init__(self, resolved: ResolvedDefense, card: DataCard, states: States, device: torch.device) -> None:
        self.resolved, self.card, self.states, self.device = resolved, card, states, device
        self._parts: dict[tuple[str, str | None], Part] = {}

    def classifier(self, client: str | None) -> Classifier:
        """The classifier of ``client``; None is a client without personal state."""

        def build() -> Classifier:
            return build_for(self.resolved.model, self.card)

        # Its initial weights are overwritten: creating them must not advance the global generator.
        with torch.random.fork_rng(devices=[]):
            classifier = self.resolved.strategy.classifier(build)
        state, source = self._shared, "classifier"
        if client is not None and self.states.has(personal("classifier", client)):
            source = personal("classifier", client)
            state = state | self.states.state(source)
        self._fill(classifier, state, source)
        classifier = self._placed(classifier)
        self._try(classifier)
        return classifier

    @torch.no_grad()
    def _try(self, classifier: Classifier) -> None:
        """Raise `HarnessError` where an image gets no logit for each class: the others would count as wrong answers."""
        image = torch.full((1, self.card.channels, self.card.size, self.card.size), 0.5, device=self.device)
        with isolated(0):
            logits = checked_logits(classifier(image), classifier, 1)
        if logits.shape[1] != len(self.card.classes):
            raise HarnessError(
                f"{named('classifier', classifier)} of {named('model', self.resolved.model)} returned "
                f"{plural(logits.shape[1], 'logit')}; data set {self.card.name!r} has "
                f"{plural(len(self.card.classes), 'class', 'classes')}"
            )

    @cached_property
    def _shared(self) -> dict[str, Tensor]:
        """The state of the classifier that all clients share, read once."""
        return self.states.state("classifier")

    def part(self, kind: str, client: str | None) -> Part | None:
        """The ``detector`` or ``purifier`` of ``client``, filled; clients without a state of their own share one.

        Raises:
            UsageError: every client fits it for itself, and this one has not.
        """
        part: Part | None = getattr(self.resolved, kind)
        if part is None:
            return None
        names = [name for name in self.resolved.learned() if name.partition("-")[0] == kind]
        own = client if client is not None and any(self.states.has(personal(name, client)) for name in names) else None
        if (kind, own) not in self._parts:
            self._parts[kind, own] = self._placed(self._built(part, names, own))
        return self._parts[kind, own]

    def _built(self, part: Part, names: list[str], client: str | None) -> Part:
        part = self.fresh(part)
        for name, leaf in zip(names, leaves(part), strict=True):
            state, source = self.learned(name, client), name
            if fits(leaf):
                if client is None:
                    raise UsageError(
                        f"{leaf.spec_name!r} is fitted by each client on its own training images, and a site never "
                        f"seen has none; use a detector or purifier that clients share"
                    )
                source = personal(name, client)
                state = leaf.state_dict() | state | self.states.state(source)
                resize(leaf, state)
            self._fill(leaf, state, source)
        return part

    def learned(self, name: str, client: str | None) -> dict[str, Tensor]:
        """The state of a part that a strategy has trained, of ``client``; empty for one that is only fitted."""
        state = self.states.state(name) if self.states.has(name) else {}
        if state and client is not None and self.states.has(mine := personal(name, client)):
            state |= self.states.state(mine)
        return state

    def unfitted(self, name: str, client: str) -> Part:
        """A copy of a part in the state to which a strategy has trained it."""
        part = self.fresh(self.resolved.learned()[name])
        self._fill(part, part.state_dict() | self.learned(name, client), name)
        return self._placed(part)

    def system(self, client: str | None) -> System:
        """The classifier and the purifier, as a detector sees them."""
        return System(self.classifier(client), cast("Purifier | None", self.part("purifier", client)))

    def detector(self, client: str | None) -> Detector | None:
        """The detector of ``client``."""
        return cast("Detector | None", self.part("detector", client))

    def fresh(self, part: Part) -> Part:
        """A copy of an untrained part, its modules created."""
        part = copy.deepcopy(part)
        with torch.random.fork_rng(devices=[]), process_kept():
            part.build(self.card.channels, self.card.size)
        return part

    def _fill(self, module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
        try:
            module.load_state_dict(dict(state))
        except RuntimeError as error:
            source = self.states.folder / f"{name}.safetensors"
            reason = " ".join(str(error).split())
            raise WeightsError(f"weights {source} do not fit {type(module).__name__}: {reason[:200]}") from None

    def _placed(self, module: M) -> M:
        # The layout in which convolutions of small images are fastest; results change by rounding only.
        return module.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def resize(leaf: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give buffers the shapes that they have in a fitted state."""
    for key, value in state.items():
        owner, _, last = key.rpartition(".")
        if last in (buffers := leaf.get_submodule(owner)._buffers):
            buffers[last] = torch.empty_like(value)


class Reordered(Around):
    """A classifier whose logits are put into the order of a data set's classes; others are left out.

    Args:
        inner: the classifier.
        order: for each class of the data set, the position of its logit.
    """

    def __init__(self, inner: Classifier, order: list[int]) -> None:
        super().__init__(inner)
        self.personal, self.heads = (
            tuple(f"inner.{name}" for name in names) for names in (inner.personal, inner.heads)
        )
        self.order: Tensor
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of the data set's classes."""
        logits: Tensor = self.inner(x)
        return logits[:, self.order]


def build_for(model: Model, card: DataCard) -> Classifier:
    """A fresh classifier of ``model`` for the classes, channels and size of a data set.

    Raises:
        BadParameter: the model names its classes, and some of the data set's are not among them.
    """
    own = model.build_findings if card.task == "multi-label" else model.build

    def build(classes: int, channels: int, size: int) -> Classifier:
        with process_kept():
            made: Any = own(classes, channels, size)
        if not isinstance(made, Classifier):
            raise HarnessError(f"{named('model', model)} built a {type(made).__name__}; valid: an rbmed.Classifier")
        return made

    if not model.classes:
        return build(len(card.classes), card.channels, card.size)
    order = class_order(model.classes, card.classes)
    if missing := [name for name, place in zip(card.classes, order, strict=True) if place is None]:
        raise BadParameter(
            f"model {model.spec_name!r} answers with {', '.join(model.classes)}; data set {card.name!r} has "
            f"{', '.join(missing)} besides; name the classes in the model's order: classes=[...]"
        )
    built = build(len(model.classes), card.channels, card.size)
    places = [place for place in order if place is not None]
    return built if places == list(range(len(model.classes))) else Reordered(built, places)


def class_order(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """The place of each wanted class among the names; None where it is not among them, or not clearly.

    A name is itself first; else upper and lower case, spaces, hyphens and underscores make no difference.
    """
    plain = [_plain(name) for name in names]
    return [
        names.index(name) if name in names else plain.index(_plain(name)) if plain.count(_plain(name)) == 1 else None
        for name in wanted
    ]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()
