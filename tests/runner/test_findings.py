"""Multi-label and ordinal tasks from a table of images to the record, on models whose exact robustness is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import robustbench_med as rbmed
from robustbench_med.errors import UsageError
from robustbench_med.leaderboard.ranking.eligibility import record_faults
from robustbench_med.leaderboard.ranking.identity import board_key
from robustbench_med.records.record import Record
from robustbench_med.records.rerun import request

NAMES = ("Edema", "Effusion", "Mass")
DATA = "table:size=16,label=Edema+Effusion+Mass,task=multi-label"
EPS = 0.03


class Regions(nn.Module):
    """Each finding is a bright quarter of the image: logits are linear in the pixels."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.zeros(3, 16, 16)
        for number, (row, column) in enumerate(((0, 0), (0, 8), (8, 0))):
            weight[number, row : row + 8, column : column + 8] = 1 / 16
        self.linear = nn.Linear(256, 3)
        with torch.no_grad():
            self.linear.weight.copy_(weight.flatten(1))
            self.linear.bias.copy_(-0.5 * self.linear.weight.sum(1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


@pytest.fixture(scope="module")
def xray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xray")
    chance, rows = np.random.default_rng(0), []
    for at in range(60):
        levels = chance.choice([0.42, 0.49, 0.51, 0.56], 4)
        image = np.kron(levels.reshape(2, 2), np.ones((8, 8)))
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(folder / f"{at}.png")
        held = [int(level > 0.5) for level in levels[[0, 1, 2]]]
        held[0] = 1 - held[0] if at % 10 == 0 else held[0]  # some labels are not what the model sees
        rows.append(f"{at}.png,{','.join(map(str, held))},{sum(held)},{'north' if at % 2 else 'south'}")
    (folder / "x.csv").write_text(f"image,{','.join(NAMES)},grade,site\n" + "\n".join(rows), encoding="utf-8")
    return folder


def run(data: str, root: Path, out: Path, model: nn.Module, **options: object) -> list[Record]:
    own = {"name": model, "mean": [0.0], "std": [1.0], "size": 16, "channels": 1}
    asked = {"attack": "apgd:steps=20,loss=margin", "access": "oblivious", "eps": EPS, "norm": "linf"}
    every: dict[str, Any] = {**asked, **options}
    return rbmed.evaluate(model=own, dataset=data, data_root=root, out=out, **every)


def exact(root: Path) -> tuple[Tensor, Tensor]:
    """Of the test images: the findings, and the distance of each to a wrong answer, 0 where it is wrong; (N, 3)."""
    test = rbmed.load_dataset(DATA, data_root=root).split("test")
    model = Regions()
    with torch.no_grad():
        logits = model(test.images)
        reach = logits.abs() / model.linear.weight.abs().sum(1)
        return test.labels, torch.where((logits > 0) == (test.labels == 1), reach, 0.0)


def test_records_of_findings_are_the_exact_figures(xray: Path, tmp_path: Path) -> None:
    labels, reach = exact(xray)
    (record,) = run(DATA, xray, tmp_path, Regions())
    assert record.dataset.task == "multi-label"
    assert record.threat.finding is None
    assert record.metrics["clean_accuracy"] == pytest.approx(float((reach > 0).all(1).float().mean()))
    assert record.metrics["robust_accuracy"] == pytest.approx(float((reach > EPS).all(1).float().mean()))
    assert record.metrics["clean_finding_accuracy"] == pytest.approx(float((reach > 0).float().mean()))
    assert record.metrics["clean_macro_auc"] is not None
    named = run(DATA, xray, tmp_path, Regions(), finding=["Mass", "edema"])
    for again, number in zip(named, (2, 0), strict=True):
        assert again.metrics["clean_accuracy"] == pytest.approx(float((reach[:, number] > 0).float().mean()))
        assert again.metrics["robust_accuracy"] == pytest.approx(float((reach[:, number] > EPS).float().mean()))
        assert again.metrics["clean_sensitivity"] is not None
    assert len({each.cell_id for each in (record, *named)}) == 3
    (hidden,) = run(DATA, xray, tmp_path, Regions(), finding="Mass", goal="hide-lesion")
    assert hidden.n == int(labels[:, 2].sum())


def test_thresholds_may_be_calibrated(xray: Path, tmp_path: Path) -> None:
    shifted = Regions()
    with torch.no_grad():
        shifted.linear.bias.add_(torch.tensor([3.0, -3.0, 0.0]))  # all, or none, of the images get a finding
    (plain,) = run(DATA, xray, tmp_path, shifted)
    (calibrated,) = run(DATA, xray, tmp_path, shifted, calibrated_thresholds=True)
    assert plain.metrics["clean_finding_accuracy"] < 0.75 < 0.8 < calibrated.metrics["clean_finding_accuracy"]
    assert plain.cell_id != calibrated.cell_id
    assert calibrated.attack.asked.calibrated_thresholds


def test_grades_have_distances(xray: Path, tmp_path: Path) -> None:
    class Count(Regions):
        """Logits of the grades 0 to 3, by how bright the image is."""

        def forward(self, x: Tensor) -> Tensor:
            held = super().forward(x).sigmoid().sum(1, keepdim=True)
            return -20 * (held - torch.arange(4.0)).square()

    data = "table:size=16,label=grade,task=ordinal"
    (near,) = run(data, xray, tmp_path, Count(), eps=0.1)
    (far,) = run(data, xray, tmp_path, Count(), eps=0.1, goal="distant")
    assert near.dataset.task == "ordinal"
    assert 0 <= near.metrics["clean_mean_absolute_error"] < near.metrics["robust_mean_absolute_error"]
    assert far.metrics["robust_off_by_more_than_one"] > near.metrics["clean_off_by_more_than_one"]
    assert far.metrics["robust_off_by_more_than_one"] >= near.metrics["robust_off_by_more_than_one"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finding": "Nodule"}, "--finding Nodule: no finding of 'table'; valid: Edema, Effusion, Mass"),
        ({"goal": "hide-lesion"}, "which --goal hide-lesion needs; name a finding: --finding"),
        ({"goal": "distant"}, "has no scale of three grades or more"),
        ({"defense": "shielded:detector=max-softmax"}, "name one of them with --finding NAME, or use another detector"),
        ({"defense": "shielded:detector=mahalanobis"}, "use another detector: knn"),
        ({"defense": "shielded:purifier=[majority:purifier=diffpure]"}, "purifier 'majority' works with one answer"),
        ({"strategy": "pfeddef"}, "strategy 'pfeddef' works with one answer for each image"),
    ],
)
def test_what_does_not_fit_several_findings_is_one_line(
    xray: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run(DATA, xray, tmp_path / "out", Regions(), **options)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_model_for_findings_answers_with_a_logit_or_a_sigmoid_for_each(xray: Path, tmp_path: Path) -> None:
    class Sigmoid(Regions):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sigmoid()

    class Softmax(Regions):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(1)

    class Single(Regions):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :1]

    (plain,) = run(DATA, xray, tmp_path, Regions())
    with pytest.warns(match="log-odds are taken"):
        (sigmoid,) = run(DATA, xray, tmp_path / "sigmoid", Sigmoid())
    assert sigmoid.metrics["clean_finding_accuracy"] == plain.metrics["clean_finding_accuracy"]
    with pytest.raises(UsageError, match="probabilities that add up to 1"):
        run(DATA, xray, tmp_path, Softmax())
    with pytest.raises(UsageError, match="one value for each image, and 3 findings are wanted"):
        run(DATA, xray, tmp_path, Single())


def test_arrays_may_hold_findings_or_grades(xray: Path, tmp_path: Path) -> None:
    labels, reach = exact(xray)
    images = rbmed.load_dataset(DATA, data_root=xray).split("test").images.numpy()
    own: Any = {"name": Regions(), "mean": [0.0], "std": [1.0], "size": 16, "channels": 1}
    how: Any = {"attack": "apgd:steps=20,loss=margin", "access": "oblivious", "eps": EPS, "model": own}
    data = rbmed.own_data((images, labels.numpy()), classes=NAMES)
    (every,) = rbmed.evaluate(dataset=data, out=tmp_path, **how)
    assert every.metrics["robust_accuracy"] == pytest.approx(float((reach > EPS).all(1).float().mean()))
    (named,) = rbmed.evaluate(dataset=data, finding="Mass", out=tmp_path, **how)
    assert named.metrics["robust_accuracy"] == pytest.approx(float((reach[:, 2] > EPS).float().mean()))
    with pytest.raises(UsageError, match="must be 3 names, one for each finding"):
        rbmed.own_data((images, labels.numpy()), classes=["Mass", "Edema"])
    graded = rbmed.own_data((images, labels.sum(1).numpy()), ordinal=True)
    assert (graded.task, len(graded.classes)) == ("ordinal", 1 + int(labels.sum(1).max()))


def test_several_findings_have_no_rank_and_boards_of_their_own(xray: Path, tmp_path: Path) -> None:
    (every,) = run(DATA, xray, tmp_path, Regions())
    named = run(DATA, xray, tmp_path, Regions(), finding=["Mass", "Edema"])
    for record in (every, *named):
        assert next(iter(record_faults(record))).startswith("boards rank tasks of one answer for each image")
    assert len({board_key(record) for record in (every, *named)}) == 3
    assert request(named[0])["finding"] == "Mass"
    assert "finding" not in request(every)
