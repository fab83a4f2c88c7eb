"""Names for people and papers of the components in records, from their plugins: ``names.json``.

The file lies beside the records, so that the pages are the same where a plugin is not installed. `rbmed leaderboard
build` brings it up to date with the plugins that are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic
from pydantic import Field

from robustbench_med.errors import UnknownName, UsageError
from robustbench_med.files.strict_json import strict_file
from robustbench_med.leaderboard.ranking.identity import trained_with
from robustbench_med.leaderboard.sources.reading import is_there, reading
from robustbench_med.plugins.specs import DefenseSpec, Spec
from robustbench_med.records.sections.base import Name

if TYPE_CHECKING:
    from robustbench_med.records.record import Record

NAMES = "names.json"
#: Kinds of components of which a page says the name.
KINDS = ("dataset", "defense", "strategy", "model", "detector", "purifier", "attack")


class Named(pydantic.BaseModel):
    """What a plugin says of a component, for readers."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    title: Name = Field("", description="Name for people.")
    paper: Name = Field("", description="Title of its paper.")
    venue: Name = Field("", description="Where and when that appeared.")
    url: Annotated[str, Field(pattern=r"^(https://[A-Za-z0-9._/()-]+)?$", max_length=200)] = Field(
        "", description="Address of the paper."
    )
    bare: bool = Field(False, description="Of a defense: rows are called after parts and training.")
    variants: dict[Name, Name] = Field({}, description="Of a defense: how its parameters read.")


#: By kind and name.
Names = Mapping[tuple[str, str], Named]
_File = pydantic.RootModel[dict[str, dict[Name, Named]]]


def read_names(path: Path) -> Names:
    """The names of a file; none where there is no file.

    Raises:
        DataError: it is not JSON, holds something else, or is no file.
    """
    if not is_there(path, "names"):
        return {}
    with reading(path, "file of names"):
        found = _File.model_validate(strict_file(path), strict=True).root
    return {(kind, name): each for kind, named in found.items() for name, each in named.items()}


def dumped(names: Names) -> str:
    """As a file, one component a line."""
    kinds = sorted({kind for kind, _ in names})
    parts = []
    for kind in kinds:
        found = sorted((name, each) for (of, name), each in names.items() if of == kind)
        lines = [f"  {_text(name)}: {each.model_dump_json(exclude_defaults=True)}" for name, each in found]
        parts.append(f" {_text(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n" if parts else "{}\n"


def refreshed(names: Names, find: Callable[[str, str], Spec], records: Iterable[Record]) -> Names:
    """The names of every component in records: of the plugin that is installed, else as they were.

    ``find`` gives the spec of a kind and a name, or raises `UnknownName`; it is the registry's, which the leaderboard
    does not know.
    """
    found: dict[tuple[str, str], Named] = {}
    for key in sorted({key for record in records for key in _components(record)}):
        try:
            found[key] = _of(find(*key))
        except UnknownName:
            if key in names:
                found[key] = names[key]
        except UsageError:  # two distributions offer it
            continue
    return {key: each for key, each in found.items() if each != Named()}


def _components(record: Record) -> Iterator[tuple[str, str]]:
    defense, parts = record.defense, record.defense.parts
    yield "dataset", record.dataset.name
    yield "defense", defense.name
    if defense.strategy is not None:
        yield "strategy", defense.strategy.name
        if adversarial := trained_with(record, "adversarial"):
            yield "attack", adversarial
    for kind in ("model", "strategy", "detector", "purifier"):
        if (part := getattr(parts, kind)) is not None:
            yield kind, part.name
    yield "attack", record.attack.name
    for rung in record.attack.rungs:
        yield "attack", rung.name


def title_of(names: Names, kind: str, name: str) -> str:
    """The name of a component for people; the one on the command line where there is no other."""
    found = names.get((kind, name))
    return (found.title if found else "") or name


def attack_title(names: Names, name: str) -> str:
    """The name of the attack that a classifier was trained with: ``PGD``; one that nobody named, in capitals."""
    found = title_of(names, "attack", name)
    return found.upper() if found == name else found


def training_of(record: Record, names: Names) -> str:
    """How the classifier was trained: ``FedAvg, adversarial training (PGD)``; "" where that is not recorded."""
    strategy, adversarial = record.defense.strategy, trained_with(record, "adversarial")
    if strategy is None:
        return ""
    words = [f"adversarial training ({attack_title(names, adversarial)})"] if adversarial else []
    return ", ".join([title_of(names, "strategy", strategy.name), *words, *conditions_of(record)])


def architecture_of(record: Record, names: Names) -> str:
    """The classifier's architecture: ``ResNet``; "" where that is not recorded."""
    part = record.defense.parts.model
    return title_of(names, "model", part.name) if part else ""


def conditions_of(record: Record) -> list[str]:
    """In words, what was special about the federation that trained the defense, such as Byzantine clients."""
    malicious = trained_with(record, "malicious")
    words = {
        "faults": "unreliable clients",
        "secure_aggregation": "secure aggregation",
        "privacy": "differential privacy",
    }
    found = [word for name, word in words.items() if trained_with(record, name)]
    return [f"{malicious} clients", *found] if malicious else found


def _of(spec: Spec) -> Named:
    more = {"bare": spec.bare, "variants": dict(spec.variants)} if isinstance(spec, DefenseSpec) else {}
    paper = {"paper": spec.paper, "venue": spec.venue, "url": address(spec.reference)} if spec.paper else {}
    return Named(title=spec.title, **paper, **more)


def address(reference: str) -> str:
    """The address of a paper: its first arXiv number, else its DOI; "" where it has none."""
    if found := re.search(r"arXiv[: ](\d{4}\.\d{4,5})", reference):
        return f"https://arxiv.org/abs/{found[1]}"
    if found := re.search(r"doi:(10\.\d{4,9}/[A-Za-z0-9._/()-]+)", reference):
        return f"https://doi.org/{found[1]}"
    return ""


def _text(name: str) -> str:
    return pydantic.TypeAdapter(str).dump_json(name).decode()
