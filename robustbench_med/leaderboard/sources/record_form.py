"""What no record that `rbmed run` wrote says: keys of its own, names that look alike, commands that run more.

A reader of the file would see them, and copy them; no figure depends on them, so that nothing else finds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pydantic

from robustbench_med.errors import BadParameter
from robustbench_med.files.hub_name import hub_name
from robustbench_med.records.record import Record

#: As plugins may call components, perhaps after their distribution: no letter of another script looks like these.
_COMPONENT = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*")
#: What quotes keep from the shell; a long command may be cut off within them.
_QUOTED = re.compile(r"'[^']*(?:'|…$)|\\(?:'|…$)")
#: Letters that end a command, begin another, or put its output into this one.
_SHELL = re.compile(r"[;&|<>()$`\"\\']")


def form_faults(record: Record) -> Iterator[str]:
    """What is wrong with how a record is written, a line each."""
    for key in sorted(_strange(record)):
        yield f"the key {key!r:.80} is none of a record"
    for name in dict.fromkeys(_components(record)):
        if not _COMPONENT.fullmatch(name):
            yield f"{name!a:.80} is no name of a component: they have small letters, digits, '.', '_' and '-'"
    command = record.provenance.command
    if command is not None and not is_own_command(command):
        yield f"{command!r:.80} is no command of rbmed alone"
    if source := record.defense.weights.source:
        try:
            hub_name(source)
        except BadParameter as error:
            yield f"its weights are said to be from {error}"


def is_own_command(text: str) -> bool:
    """Whether a shell would run `rbmed` with these words, and nothing else."""
    program, _, words = text.partition(" ")
    return program == "rbmed" and not _SHELL.search(_QUOTED.sub("", words))


def _strange(facts: object, place: str = "") -> Iterator[str]:
    """Keys that no section has, by dotted name."""
    if isinstance(facts, pydantic.BaseModel):
        yield from (f"{place}{name}" for name in facts.model_extra or ())
        for name in type(facts).model_fields:
            yield from _strange(getattr(facts, name), f"{place}{name}.")
    elif isinstance(facts, Mapping):
        for each in facts.values():
            yield from _strange(each, place)
    elif isinstance(facts, list | tuple):
        for each in facts:
            yield from _strange(each, place)


def _components(record: Record) -> Iterator[str]:
    defense, attack = record.defense, record.attack
    yield from (record.dataset.name, defense.name, attack.name, *(rung.name for rung in attack.rungs))
    if defense.strategy is not None:
        yield defense.strategy.name
    for part in (defense.parts.model, defense.parts.strategy, defense.parts.detector, defense.parts.purifier):
        if part is not None:
            yield part.name
    if record.surrogate is not None:
        yield record.surrogate.name
