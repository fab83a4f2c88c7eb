"""A reference to a trained defense: enough to find its weights, or to train it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_med.files.escaping import shell_command
from robustbench_med.interfaces.defense import Recipe
from robustbench_med.plugins.references import PartRef, format_ref


@dataclass(frozen=True)
class TrainedRef:
    """A defense, what replaces its parts, the data it is trained on, and the seed.

    Attributes:
        defense: the recipe.
        dataset: the data set, before its patients are assigned to clients.
        model: architecture in place of the recipe's own.
        strategy: training strategy in place of the recipe's own.
        options: parameters of whichever strategy it is: ``adversarial``, ``malicious``, ``engine``.
        partition: how patients are assigned to clients; None: by site.
        unseen: sites that take no part in training.
        seed: of the training; None: any, the newest weights first.
    """

    defense: PartRef
    dataset: PartRef
    model: PartRef | None = None
    strategy: PartRef | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    partition: PartRef | None = None
    unseen: tuple[str, ...] = ()
    seed: int | None = None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a cell's id depends on; not to be changed."""
        return asdict(self)

    def options_given(self) -> dict[str, str]:
        """What replaces the recipe's own parts, by option of the command line."""
        parts = {"model": self.model, "strategy": self.strategy}
        return {name: format_ref(ref) for name, ref in parts.items() if ref} | dict(self.options)

    def command(self, data_root: Path | None = None) -> str:
        """The command that trains exactly this."""
        words = ["rbmed", "train", format_ref(self.defense), "--dataset", format_ref(self.dataset)]
        for name, text in self.options_given().items():
            words += [f"--{name}", text]
        if self.partition:
            words += ["--partition", format_ref(self.partition)]
        for site in self.unseen:
            words += ["--unseen-site", site]
        if self.seed is not None:
            words += ["--seed", str(self.seed)]
        if data_root is not None:
            words += ["--data-root", str(data_root)]
        return shell_command(words)

    def origin(self, recipe: Recipe, data_root: Path | None = None) -> dict[str, str]:
        """`TrainJob.origin`: references in text that `parse` reads back; ``unseen`` is separated by commas."""
        texts = {
            "dataset": format_ref(self.dataset),
            "partition": format_ref(self.partition) if self.partition else "",
            "unseen": ",".join(self.unseen),
            "model": format_ref(recipe.model),
            "strategy": format_ref(recipe.strategy),
            "data_root": str(data_root.expanduser().absolute()) if data_root is not None else "",
        }
        return {name: text for name, text in texts.items() if text}
