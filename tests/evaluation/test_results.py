"""What `evaluate` returns: a list of records that shows itself, and tidy tables and plots of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers import board
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter, DataError, ModelNote, RbmedWarning, StoreError, UsageError
from robustbench_med.evaluation.results import Results
from robustbench_med.records.record import Record


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpl, "rcParams", mpl.rcParams.copy())
    mpl.use("Agg")


class Bright(nn.Module):
    """Calls bright images class 1."""

    def forward(self, x: Tensor) -> Tensor:
        above = 20 * (x.mean((1, 2, 3)) - 0.35)
        return torch.stack([-above, above], 1)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = 0.4 * torch.rand(24, 1, 16, 16, generator=generator)
    x[1::2] += 0.3
    return x


LABELS = torch.arange(24) % 2


def evaluate(folder: Path, data: Any, **options: Any) -> Results:
    given = {"attack": "fgsm", "eps": ["2/255", "64/255"], "access": "oblivious", "device": "cpu", "out": folder}
    with pytest.warns(ModelNote, match="classes in order"):
        return rbmed.evaluate(model=Bright(), dataset=data, **given | options)


@pytest.mark.parametrize("form", ["arrays", "bytes", "one channel", "data set", "loader", "own data"])
def test_a_module_is_evaluated_on_images_in_memory(tmp_path: Path, images: Tensor, form: str) -> None:
    set_ = TensorDataset(images, LABELS)
    data = {
        "arrays": lambda: (images.numpy(), LABELS.numpy()),
        "bytes": lambda: ((255 * images).round().byte(), LABELS[:, None]),
        "one channel": lambda: (images[:, 0].tolist(), LABELS.tolist()),
        "data set": lambda: set_,
        "loader": lambda: DataLoader(set_, batch_size=5),
        "own data": lambda: rbmed.own_data(set_, patients=[i // 2 for i in range(24)], sites=["n", "s"] * 12),
    }[form]()
    small, large = evaluate(tmp_path, data)
    assert small.metrics["clean_accuracy"] == small.metrics["robust_accuracy"] == 1.0
    assert large.metrics["robust_accuracy"] == 0.0
    assert (small.n, small.patients) == (24, 12 if form == "own data" else None)
    assert small.clients == (["n", "s"] if form == "own data" else ["own"])


def test_the_lesion_is_part_of_the_data(tmp_path: Path, images: Tensor) -> None:
    images[1] = images[0]  # so that class b is answered worse than class a
    found = {}
    for lesion in ("a", "b"):
        data = rbmed.own_data((images, LABELS), classes=["a", "b"], lesion=lesion)
        found[lesion] = evaluate(tmp_path, data, attack="clamp")[0].metrics
    assert found["a"]["clean_sensitivity"] == found["b"]["clean_specificity"] == 1
    assert found["b"]["clean_sensitivity"] == found["a"]["clean_specificity"] < 1


def test_results_are_a_list_a_frame_a_table_and_plots(tmp_path: Path, images: Tensor) -> None:
    data = rbmed.own_data((images, LABELS), classes=["no", "yes"], lesion="yes", sites=["n", "s"] * 12)
    results = evaluate(tmp_path, data, attack=["fgsm", "noise"])
    frame = results.to_frame()
    assert [record.threat.eps for record in results[:2]] == frame.eps.tolist()[:2]
    assert isinstance(results[:2], Results)
    assert {"robust_accuracy", "robust_accuracy_low", "robust_accuracy_high", "clean_sensitivity"} <= set(frame)
    clients = results.to_frame(by="client")
    assert clients.groupby("client").size().to_dict() == {"n": 4, "s": 4}
    assert clients.loc[clients.attack == "fgsm", "robust_accuracy"].between(0, 1).all()
    noise = results.where(attack="noise", eps=2 / 255)
    assert [record.attack.name for record in noise] == ["noise"]
    with pytest.raises(BadParameter, match="no column 'attak'"):
        results.where(attak="noise")
    assert results.table().row_count == 4
    text = results._repr_html_()
    assert text.count("<tr>") == 5
    assert "0.0 [0, " in text

    axes = results.plot("eps")
    fgsm = next(line for line in axes.get_lines() if line.get_label().startswith("undefended, fgsm"))
    assert np.allclose(fgsm.get_ydata(), [100.0, 0.0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "2/255", "64/255"]
    bars = results.plot("clients", ax=mpl.figure.Figure().subplots())
    assert [label.get_text() for label in bars.get_xticklabels()] == ["n", "s"]
    with pytest.raises(BadParameter, match="no ladder was measured"):
        results.plot("saturation")
    with pytest.raises(BadParameter, match="there is no plot 'pie'; valid: eps, clients, saturation"):
        results.plot("pie")  # type: ignore[arg-type]


def test_the_saturation_curve_adds_up_the_gradients_of_the_rungs() -> None:
    rungs = [
        {
            "rung": f"{access} apgd",
            "access": access,
            "attacked": 64,
            "withstanding": left,
            "broken": 6,
            "gradients_mean": 20.0,
            "queries_mean": 21.0,
            "seconds": 1.0,
            "reason": "",
            "rounds": rounds,
        }
        for access, left, rounds in [
            ("oblivious", 0.8, [{"gradients": 20.0, "withstanding": 0.8}]),
            ("full", 0.5, [{"gradients": 10.0, "withstanding": 0.6}, {"gradients": 30.0, "withstanding": 0.5}]),
        ]
    ]
    axes = Results([board.record(rungs=rungs, metrics={"clean_accuracy": 0.9})]).plot("saturation")
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == [0.0, 20.0, 30.0, 50.0]
    assert line.get_ydata().tolist() == [90.0, 80.0, 60.0, 50.0]


def test_skipped_cells_say_why_and_an_empty_list_has_the_columns() -> None:
    skipped = board.record(status="skipped", n=0, reason="<b>no such rung")
    assert "&lt;b&gt;no such rung" in Results([skipped])._repr_html_()
    assert list(Results().to_frame())[:3] == ["dataset", "dataset_params", "synthetic"]
    assert Results().where(attack="apgd") == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda x, y: (2 * x, y), r"test images span \[.*\]; valid: \[0, 1\], before normalisation"),
        (lambda x, y: (x.long(), y), "test images are torch.int64; valid: uint8"),
        (lambda x, y: (x.permute(0, 2, 3, 1), y), r"shape \(24, 16, 16, 1\); valid: \(N, C, H, W\)"),
        (lambda x, y: (x[:, :, :8], y), "H = W"),
        (lambda x, y: (x[:0], y[:0]), "shape"),
        (lambda x, y: (x, y[:3]), "for 24 images; valid: one integer >= 0 for each image"),
        (lambda x, y: (x, y.float()), "type torch.float32"),
        (lambda x, y: (x, -y), "one integer >= 0"),
        (lambda x, y: (["a"] * 24, y), "no array of numbers"),
        (lambda x, y: TensorDataset(x), r"every item must be a pair \(image, label\)"),
        (lambda x, y: (x * float("nan"), y), "test images span"),
        (lambda x, y: (x, torch.eye(2)[y]), r"exactly one, as of classes in one-hot form; .* labels.argmax\(1\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_in_one_line(images: Tensor, changed: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as error:
        rbmed.own_data(changed(images, LABELS))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("owners", [{"patients": [str(i // 2) for i in range(24)]}, {"sites": ["n", "s"] * 12}])
@pytest.mark.parametrize("sampler", [None, SubsetRandomSampler(range(24))])
def test_a_loader_that_shuffles_images_away_from_their_patients_is_refused(
    images: Tensor, owners: dict[str, Any], sampler: Any
) -> None:
    loader = DataLoader(TensorDataset(images, LABELS), 5, shuffle=sampler is None, sampler=sampler)
    with pytest.raises(DataError, match="shuffles the images away from their patients and sites; use shuffle=False"):
        rbmed.own_data(loader, **owners)
    assert sorted(rbmed.own_data(loader).splits["test"].labels.tolist()) == sorted(LABELS.tolist())


@pytest.mark.parametrize("kind", ["weighted", "replaced"])
def test_a_loader_that_draws_images_several_times_is_refused(images: Tensor, kind: str) -> None:
    data = TensorDataset(images, LABELS)
    weighted = kind == "weighted"
    sampler = WeightedRandomSampler([1.0] * 24, 24, replacement=False) if weighted else RandomSampler(data, True)
    with pytest.raises(DataError, match="by chance, some of them several times; use one that gives each once"):
        rbmed.own_data(DataLoader(data, 5, sampler=sampler))


@pytest.mark.parametrize("dark", [lambda x: x / 255, lambda x: (x > 0.3).byte()])
def test_images_that_were_scaled_twice_are_warned_of(images: Tensor, dark: Any) -> None:
    with pytest.warns(RbmedWarning, match=r"no pixel is above 0\.00\d+; were they divided by 255 twice\?"):
        rbmed.own_data((dark(images), LABELS))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"classes": ["a"]}, "at least 2 different names"),
        ({"classes": ["a", "a"]}, "at least 2 different names"),
        ({"lesion": "c"}, "lesion='c' is none of the classes class 0, class 1"),
        ({"patients": ["p"]}, "patients has 1 entry for 24 test images"),
        ({"sites": ["p"]}, "sites has 1 entry for 24 test images"),
        ({"patients": ["p", None] * 12}, "patients has no value for 12 test images, 1 for example: all of them would"),
        ({"sites": [float("nan"), *range(23)]}, "sites has no value for 1 test image, 0 for example"),
        ({"train": (torch.rand(2, 3, 16, 16), [0, 1])}, "train images are 3 x 16 x 16, test images 1 x 16 x 16"),
    ],
)
def test_facts_that_do_not_fit_are_refused(images: Tensor, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        rbmed.own_data((images, LABELS), **options)


def test_what_needs_training_images_says_that_there_are_none(tmp_path: Path, images: Tensor) -> None:
    options: dict[str, Any] = {"dataset": (images, LABELS), "attack": "fgsm", "train": True, "out": tmp_path / "r"}
    with pytest.raises(UsageError, match="data set 'own' has no training images"):
        rbmed.evaluate(defense="undefended", **options)
    assert not (tmp_path / "r" / "records.jsonl").exists()


def test_an_input_error_is_one_line_in_a_notebook() -> None:
    error = BadParameter("unknown attack 'apgdd'")
    assert error._render_traceback_() == ["BadParameter: unknown attack 'apgdd'"]
    assert StoreError("cannot write out")._render_traceback_() == ["StoreError: cannot write out"]


def test_a_figure_without_an_interval_has_no_error_bar() -> None:
    clients = {name: {"robust_accuracy": 0.5} for name in ("a", "b")}
    axes = Results([board.record(metrics={"robust_accuracy": 0.5}, per_client=clients)]).plot("clients")
    ends = [
        end for bars in axes.containers if hasattr(bars, "lines") for line in bars.lines[1] for end in line.get_ydata()
    ]
    assert ends
    assert all(math.isnan(end) for end in ends)


@pytest.mark.parametrize(("eps", "aslant"), [((1, 4, 16), True), ((2, 4, 8), False)])
def test_names_of_radii_stay_apart(eps: tuple[int, ...], aslant: bool) -> None:
    cells = [
        board.record(
            threat={"norm": "linf", "eps": each / 255, "access": "ladder", "goal": "untargeted"},
            metrics={"robust_accuracy": 0.5},
        )
        for each in eps
    ]
    labels = Results(cells).plot("eps").get_xticklabels()
    assert {label.get_rotation() > 0 for label in labels} == {aslant}


def test_cells_of_another_question_are_other_lines_with_names_of_their_own() -> None:
    def cell(eps: float, name: str, seed: int) -> Record:
        made = board.record(metrics={"robust_accuracy": 0.5})
        weights = made.defense.weights.model_copy(update={"seed": seed})
        return made.model_copy(
            update={
                "threat": made.threat.model_copy(update={"eps": eps}),
                "dataset": made.dataset.model_copy(update={"name": name}),
                "defense": made.defense.model_copy(update={"weights": weights}),
            }
        )

    axes = Results([cell(eps, *of) for eps in (0.01, 0.02) for of in (("a", 0), ("a", 1), ("b", 0))]).plot("eps")
    names = axes.get_legend_handles_labels()[1]
    assert [name.partition(", dataset")[2] for name in names] == [
        " a, train seed 0",
        " a, train seed 1",
        " b, train seed 0",
    ]
    one = Results([cell(eps, "a", 0) for eps in (0.01, 0.02)]).plot("eps")
    (name,) = one.get_legend_handles_labels()[1]
    assert "dataset" not in name
