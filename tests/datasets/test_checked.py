"""A data set of a plugin gives what its interface promises, or is refused by name before anything is measured."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_plugin import Stripes

import robustbench_med as rbmed
from robustbench_med.datasets.checked import Checked
from robustbench_med.datasets.loading import open_dataset
from robustbench_med.errors import DataError
from robustbench_med.interfaces.dataset import Dataset
from robustbench_med.plugins.references import PartRef
from robustbench_med.plugins.registry import Registry


class Changed(Stripes):
    """Stripes with another card, or other splits."""

    def __init__(
        self, card: Callable[[Any], Any] = lambda card: card, split: Callable[[Any], Any] = lambda s: s
    ) -> None:
        super().__init__(Stripes.Params())
        self.other_card, self.other_split = card, split

    def card(self) -> Any:
        return self.other_card(super().card())

    def split(self, name: str) -> Any:
        return self.other_split(super().split(name))


def checked(**changes: Callable[[Any], Any]) -> Dataset:
    return Checked(Changed(**changes), "dataset 'stripes' (mine 1.0)")


def with_(**values: Any) -> Callable[[Any], Any]:
    return lambda made: replace(made, **values)


CARDS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda card: None, "is a NoneType, not a DataCard"),
    (with_(classes=("a", "a")), "names two classes 'a'; each has a name of its own"),
    (with_(classes=("a",)), "names 1 class; valid: 2 or more"),
    (with_(classes="ab"), "says classes='ab', not a tuple of names"),
    (with_(classes=(0, 1)), r"says classes=\(0, 1\), not a tuple of names"),
    (with_(lesion_class=9), "says lesion_class=9; valid: None or 0 to 1"),
    (with_(task="segmentation"), "says task='segmentation'; valid: multi-class, multi-label, ordinal"),
    (with_(channels=0), "says channels=0; valid: a whole number >= 1"),
    (with_(digest=None), "says digest=None; valid: a text"),
    (with_(name="BUSI"), "says name='BUSI'; valid: small letters, digits, '.', '_' and '-', as 'busi'"),
]


@pytest.mark.parametrize(("change", "told"), CARDS)
def test_a_card_that_is_wrong_is_refused(change: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(DataError, match=rf"^dataset 'stripes' \(mine 1.0\): its card {told}$"):
        checked(card=change).card()


def images(change: Callable[[torch.Tensor], Any]) -> Callable[[Any], Any]:
    return lambda split: replace(split, images=change(split.images))


def labels(change: Callable[[torch.Tensor], Any]) -> Callable[[Any], Any]:
    return lambda split: replace(split, labels=change(split.labels))


SPLITS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda split: None, "is a NoneType, not a Split"),
    (images(lambda x: (255 * x).to(torch.uint8)), r"images that are uint8 \(24, 1, 8, 8\), not float32 \(N, 1, 8, 8\)"),
    (images(lambda x: x.double()), r"images that are float64 \(24, 1, 8, 8\), not float32"),
    (images(lambda x: x.numpy()), "images that are a ndarray, not a tensor float32"),
    (images(lambda x: x[:, 0]), r"images that are float32 \(24, 8, 8\), not float32 \(N, 1, 8, 8\)"),
    (images(lambda x: x[..., :6]), r"images that are float32 \(24, 1, 8, 6\)"),
    (images(lambda x: 255 * x), "images with values from 8.*; valid: 0 to 1"),
    (images(lambda x: 2 * x - 1), "images with values from -0"),
    (images(lambda x: x / 0), "images with values that are not finite"),
    (images(lambda x: x.requires_grad_()), "images with a gradient; detach them"),
    (images(lambda x: x[1:]), "has 23 images, 24 labels, 24 patients, 24 sites, not equally many"),
    (labels(lambda y: y + 3), r"labels from 3 to 4; valid: 0 to 1 \(left, right\)"),
    (labels(lambda y: y - 1), "labels from -1 to 0"),
    (labels(lambda y: y.float()), r"labels that are float32 \(24,\), not int64 \(N\)"),
    (labels(lambda y: y.tolist()), "labels that are a list, not a tensor int64"),
    (labels(lambda y: y[:, None]), r"labels that are int64 \(24, 1\)"),
    (with_(patients=("p",)), "24 images, 24 labels, 1 patient, 24 sites"),
    (with_(patients=tuple(range(24))), "patients that are no tuple of texts"),
    (with_(sites=None), "sites that are no tuple of texts"),
    (with_(masks=torch.ones(24, 1, 4, 4).bool()), r"masks that are bool \(24, 1, 4, 4\), not bool \(24, 1, 8, 8\)"),
    (lambda s: replace(s, counterfactuals=255 * s.images), "counterfactuals with values from 8.*; valid: 0 to 1"),
    (lambda s: replace(s, counterfactuals=s.images / 0), "counterfactuals with values that are not finite"),
    (with_(lesions={"weight": torch.ones(24)}), "measures 'weight' of lesions; valid: "),
    (with_(lesions={"radius": torch.ones(9)}), r"lesions\['radius'\] of 9 images, not of 24"),
]


@pytest.mark.parametrize(("change", "told"), SPLITS)
def test_a_split_that_is_wrong_is_refused(change: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(DataError, match=rf"^dataset 'stripes' \(mine 1.0\): its split 'test' .*{told}"):
        checked(split=change).split("test")


def test_an_empty_split_is_read() -> None:
    assert len(checked(split=lambda split: split.select(torch.arange(0))).split("train")) == 0


def test_patients_of_two_splits_are_refused_where_they_are_known() -> None:
    names = with_(patients=tuple(f"p{at}" for at in range(24)))
    twice: Callable[[Any], Any] = lambda split: names(split.select(torch.arange(24)))  # noqa: E731
    made = checked(split=twice)
    made.split("train")
    with pytest.raises(
        DataError, match=r"split 'test' has 24 patients of 'train' \(p0, p1, p10\); a patient is in one "
    ):
        made.split("test")
    unknown = checked(split=twice, card=with_(patients_known=False))
    assert len(unknown.split("train")) == len(unknown.split("test")) == 24


def test_images_that_differ_from_call_to_call_are_refused() -> None:
    made = checked(split=images(lambda x: x * 0.9 + 0.1 * torch.rand(x.shape)))
    made.split("test")
    with pytest.raises(DataError, match="split 'test' has other images, labels or patients than before"):
        made.split("test")
    cards = iter("ab")
    other = checked(card=lambda card: replace(card, digest=next(cards)))
    other.card()
    with pytest.raises(DataError, match="its card differs between two calls"):
        other.card()


def test_what_a_data_set_changes_of_the_process_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def away(split: rbmed.Split) -> rbmed.Split:
        os.chdir("/")
        print("reading")  # noqa: T201 -- as the code of a plugin may
        return split

    checked(split=away).split("test")
    assert Path.cwd() == tmp_path
    assert capsys.readouterr() == ("", "reading\n")


def test_a_data_set_is_checked_by_whichever_way_it_is_opened(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys.load("dataset", "stripes"), "card", lambda self: None)
    with pytest.raises(DataError, match=r"^dataset 'stripes' \(toy_plugin 0\+\w+\): its card is a NoneType"):
        open_dataset(toys, PartRef("stripes")).card()


def test_images_may_lie_in_memory_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustbench_med.datasets.checked.AT_ONCE", 100)
    last: Callable[[Any], Any] = images(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
    made = checked(split=last)
    assert torch.equal(made.split("test").images, made.split("test").images)
    late = checked(split=images(lambda x: torch.cat([x[:-1], x[-1:] + 1])))
    with pytest.raises(DataError, match="images with values from"):
        late.split("test")
    number = iter(range(9))
    moved = checked(split=images(lambda x: torch.cat([x[:-1], x[-1:] * (1 - 0.1 * next(number))])))
    moved.split("test")
    with pytest.raises(DataError, match="other images, labels or patients than before"):
        moved.split("test")


class OwnConstructor(Stripes):
    """A class that keeps its parameters only, as many do."""

    def __init__(self, params: Any = None, root: Path | None = None, progress: Any = None) -> None:
        self.params = params or self.Params()


def test_a_data_set_with_a_constructor_of_its_own_is_read_and_copied() -> None:
    made = Checked(OwnConstructor(), "dataset 'stripes' (mine 1.0)")
    before = made.split("test")
    other = pickle.loads(pickle.dumps(made))  # noqa: S301 -- as for the worker of a loader
    assert torch.equal(other.split("test").images, before.images)
    assert torch.equal(copy.deepcopy(made).split("test").images, before.images)
