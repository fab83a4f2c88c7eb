"""Names for people: of rows, and of boards.

A row is called after its defense. One that adds nothing to the classifier but parts is called after these, and one
without parts after its training: "Adversarial training, FedAvg + PGD" or "No defense, FedAvg".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from robustbench_med.errors import UsageError
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry, RungFigure
from robustbench_med.leaderboard.ranking.identity import trained_with
from robustbench_med.leaderboard.sources.names import Named, Names, attack_title, conditions_of, title_of
from robustbench_med.plugins.references import PartRef, format_params, format_ref, parse
from robustbench_med.records.record import Record

#: Parameters of a defense that say which part it has, by the part's kind.
_PARTS = ("detector", "purifier")
#: Parameters that are shown apart: the part that a value without a key names, strategy and model.
_APART = ("", "strategy", "model")
_NOTHING = Named()


@dataclass(frozen=True)
class Source:
    """A paper: title, where and when it appeared, and its address or ""."""

    title: str
    venue: str = ""
    url: str = ""


@dataclass(frozen=True)
class Called:
    """The name of a row.

    Attributes:
        title: for people.
        spec: as on the command line; "" where the title is the same.
        training: how the classifier was trained, and its architecture.
        papers: of the defense or its parts and training, the newest first.
        plain: a classifier without a defense and without adversarial training: what others are compared with.
        trained: the same with adversarial training, the usual defense: what others should surpass.
    """

    title: str
    spec: str
    training: str
    papers: tuple[Source, ...] = ()
    plain: bool = False
    trained: bool = False

    @property
    def paper(self) -> Source | None:
        """The one that is shown where there is room for one."""
        return self.papers[0] if self.papers else None


@dataclass(frozen=True)
class People:
    """Names of rows and boards.

    Attributes:
        names: of components; those that it lacks are called as on the command line.
        shared: published names that several data sets have, which need their parameters to tell them apart.
    """

    names: Names = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    _rows: dict[int, Called] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def among(cls, boards: Sequence[Board], names: Names) -> People:
        """Names by which each data set of some boards is told from the others."""
        sets = {board.same_data: _published(board) for board in boards}
        counts = Counter(sets.values())
        return cls(names, frozenset(name for name, count in counts.items() if name and count > 1))

    def of(self, entry: Entry) -> Called:
        """The name of a row."""
        found = self._rows.get(id(entry))
        if found is None:
            found = self._rows[id(entry)] = self._called(entry)
        return found

    def data(self, board: Board) -> str:
        """The name of a board's data set: as published, with its folds; else with its parameters and partition."""
        if (short := _published(board)) and short not in self.shared:
            return short
        title = board.data.name if board.data else self._named("dataset", board.dataset).title or board.dataset
        partition = re.sub(r"^(\w+) clients (\d+)", r"\2 \1 clients", _words(board.partition))
        return ", ".join(filter(None, [title, _folds(board.options), partition]))

    def data_set(self, data: PartRef) -> str:
        """The name of a data set with its parameters."""
        title = self._named("dataset", data.name).title or data.name
        return ", ".join(filter(None, [title, _folds(format_params(data.params))]))

    def attack(self, attack: PartRef) -> str:
        """The name of an attack with its parameters; "" where it has none for people."""
        title = self._named("attack", attack.name).title
        name = " ".join(str(part) for part in (title, attack.params.get("")) if part)
        rest = _words(format_params({key: value for key, value in attack.params.items() if key}))
        return ", ".join(filter(None, [name, rest])) if title else ""

    def attacker(self, rung: RungFigure) -> tuple[str, str]:
        """A rung's name for people, ``gate: APGD, steps 20, selective``, and its attack as on the command line.

        Where the attack has no name for people, the rung's own and "".
        """
        spec, _, how = rung.name.removeprefix(rung.access).strip().partition(" ")
        try:
            title = self.attack(parse(spec))
        except UsageError:  # a record of others may hold anything
            title = ""
        if not title:
            return rung.name, ""
        return f"{rung.access}: {', '.join(filter(None, [title, how]))}", "" if spec == title.lower() else spec

    def board(self, board: Board) -> str:
        """The name of a board."""
        return f"{self.data(board)}, {board.threat}"

    def _named(self, kind: str, name: str) -> Named:
        return self.names.get((kind, name), _NOTHING)

    def title(self, record: Record, defense_name: str = "") -> str:
        """The name of the system that a record is of; "" where its defense has none for people.

        A row may hold records of systems that are the same under several names; then the row's name is given.
        """
        defense = self._named("defense", defense_name or record.defense.name)
        adversarial = trained_with(record, "adversarial")
        if not defense.title:
            return ""
        name, words = defense.title, list(self._variants(record, defense))
        if defense.bare:
            parts = " + ".join(part.title for part in self._parts(record))
            name = parts or ("Adversarial training" if adversarial else name)
            words = [self._training(record, adversarial), *words]
        return ", ".join(filter(None, [name, *words]))

    def _called(self, entry: Entry) -> Called:
        record = entry.records[0]
        defense = self._named("defense", entry.defense_name)
        adversarial = trained_with(record, "adversarial")
        training = ", ".join(filter(None, [entry.strategy, entry.architecture]))
        if not defense.title:
            known = [Source(entry.paper.text, "", entry.paper.url)] if entry.paper else []
            return Called(entry.defense, "", training, tuple(known))
        parts = list(self._parts(record))
        alone = defense.bare and not parts
        papers = tuple(self._papers(entry, defense, parts, adversarial))
        title = self.title(record, entry.defense_name)
        return Called(
            title, entry.defense, training, papers, plain=alone and not adversarial, trained=alone and bool(adversarial)
        )

    def _training(self, record: Record, adversarial: str) -> str:
        strategy = record.defense.strategy
        name = title_of(self.names, "strategy", strategy.name) if strategy else ""
        attack = attack_title(self.names, adversarial) if adversarial else ""
        return ", ".join(filter(None, [" + ".join(filter(None, [name, attack])), *conditions_of(record)]))

    def _parts(self, record: Record) -> Iterator[Named]:
        for kind in _PARTS:
            part = getattr(record.defense.parts, kind)
            if part is not None:
                named = self._named(kind, part.name)
                yield named if named.title else Named(title=part.name)

    def _variants(self, record: Record, defense: Named) -> Iterator[str]:
        for name, value in record.defense.params_passed.items():
            if name in _APART or (defense.bare and name in _PARTS):
                continue
            text = format_params({name: value})
            words = defense.variants.get(text)
            if words is None and name in _PARTS:
                words = self._part(name, value, defense)
            yield text.replace("=", " ", 1) if words is None else words

    def _part(self, kind: str, value: object, defense: Named) -> str:
        """``detector DRAM``; of a part that is called as the defense, its parameters alone."""
        if isinstance(value, Mapping):
            value = format_ref(PartRef(str(value.get("name", "")), {k: v for k, v in value.items() if k != "name"}))
        name, params = _read(str(value))
        title = self._named(kind, name).title or name
        return _words(params) if title == defense.title else " ".join(filter(None, [title, _words(params)]))

    def _papers(self, entry: Entry, defense: Named, parts: list[Named], adversarial: str) -> Iterator[Source]:
        strategy = entry.records[0].defense.strategy
        training = [self._named("strategy", strategy.name)] if strategy else []
        training += [self._named("attack", adversarial)] if adversarial else []
        own = parts or training if defense.bare else [defense]
        found = {each.paper: Source(each.paper, each.venue, each.url) for each in own if each.paper}
        if not found and entry.paper:
            found = {entry.paper.text: Source(entry.paper.text, "", entry.paper.url)}
        yield from sorted(found.values(), key=lambda each: each.venue[-4:], reverse=True)


def _read(text: str) -> tuple[str, str]:
    try:
        found = parse(text)
    except UsageError:  # a record of others may hold anything
        return text, ""
    return found.name, format_params(found.params)


def _words(params: str) -> str:
    """``train_patients=100`` as ``train patients 100``."""
    return params.replace("_", " ").replace("=", " ").replace(":", " ").replace(",", ", ")


def _published(board: Board) -> str:
    """A data set as its authors call it, with its folds; "" where nobody said."""
    folds = re.search(r"\bfolds=\d+", board.options)
    return ", ".join(filter(None, [board.data.name, _folds(folds[0]) if folds else ""])) if board.data else ""


def _folds(options: str) -> str:
    """Parameters of a data set in words: ``folds=5`` as ``5 folds``."""
    return re.sub(r"\bfolds (\d+)", r"\1 folds", _words(options))
