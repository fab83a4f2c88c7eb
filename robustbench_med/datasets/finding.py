"""One finding of a multi-label data set as a task of two classes."""

from __future__ import annotations

from dataclasses import replace

from robustbench_med.errors import BadParameter
from robustbench_med.interfaces.dataset import DataCard, Dataset, Split
from robustbench_med.interfaces.threat import one_label


def finding_number(card: DataCard, finding: str) -> int:
    """The place of a finding among those of a data set; upper and lower case make no difference.

    Raises:
        BadParameter: it is no multi-label data set, or has no such finding.
    """
    if card.task != "multi-label":
        raise one_label(finding, card.name)
    names = [name.casefold() for name in card.classes]
    if finding not in card.classes and names.count(finding.casefold()) != 1:
        raise BadParameter(f"--finding {finding}: no finding of {card.name!r}; valid: {', '.join(card.classes)}")
    return card.classes.index(finding) if finding in card.classes else names.index(finding.casefold())


def asked(dataset: Dataset, finding: str) -> Dataset:
    """The data set with the question that is asked: is this finding there? Without a name the data set itself.

    Raises:
        BadParameter: see `finding_number`.
    """
    return _OneFinding(dataset, finding_number(dataset.card(), finding)) if finding else dataset


class _OneFinding(Dataset):
    """The same images; the digest stays that of the data set, with which weights were trained."""

    def __init__(self, base: Dataset, number: int) -> None:
        super().__init__(base.params, base.root, base.progress)
        self.base, self.number = base, number

    def card(self) -> DataCard:
        card = self.base.card()
        name = card.classes[self.number]
        return replace(card, classes=(f"no {name}", name), lesion_class=1, task="multi-class")

    def split(self, name: str) -> Split:
        split = self.base.split(name)
        return replace(split, labels=split.labels[:, self.number])

    def check(self) -> list[str]:
        return self.base.check()
