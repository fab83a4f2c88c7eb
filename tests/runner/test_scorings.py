"""Further ways to score: rounded to 8 bits, one noise for all images, mean, majority and any of n draws."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import board as boards
from helpers import grids
from helpers.attacks import run, rung, settings
from torch import Tensor

from robustbench_med.cli.tables import lines
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.defense import Purifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.interfaces.training import Classifier
from robustbench_med.leaderboard.ranking.entries import scorings
from robustbench_med.leaderboard.render.columns import BY_NAME
from robustbench_med.leaderboard.render.page.environment import counted
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record, dumped, parse
from robustbench_med.records.rerun import command, request
from robustbench_med.reproduction.verify import Verifier

Measured = tuple[Registry, Path, list[Record]]


class Threshold(Classifier):
    """Class 1 where the first pixel is above a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        over = x[:, 0, 0, 0] - self.level
        return torch.stack([-over, over], 1)


class Draws(Purifier):
    """Adds noise to the first pixel."""

    bounded = False

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return x + 0.1 * rng.normal((len(x), 1, 1, 1))


def test_rounding_gives_back_what_lies_between_two_levels() -> None:
    """The attack crosses 10.2/255 by less than rounding to 10/255 takes back."""
    x = torch.full((6, 1, 2, 2), 10 / 255)
    y = torch.zeros(6, dtype=torch.int64)
    how = settings(rung("oblivious", "apgd:steps=5"), threat=ThreatModel(eps=0.4 / 255), score_8bit=True)
    outcome = run(Pipeline(Threshold(10.2 / 255)), x, y, how)
    assert not outcome.attacked.robust(y).any()
    assert outcome.also["attacked_8bit"].robust(y).all()
    wide = settings(rung("oblivious", "pgd:steps=5"), threat=ThreatModel(eps=2 / 255), score_8bit=True)
    assert not run(Pipeline(Threshold(10.6 / 255)), x, y, wide).also["attacked_8bit"].robust(y).any()


def test_images_of_8_bits_are_scored_with_the_noise_of_the_score() -> None:
    x = torch.randint(255, (12, 1, 2, 2), generator=torch.Generator().manual_seed(0)) / 255
    y = (x[:, 0, 0, 0] > 0.5).long()
    how = settings(rung("oblivious", "clamp"), threat=ThreatModel(eps=1e-6), draws=4, score_8bit=True)
    outcome = run(Pipeline(Threshold(0.5), None, Draws()), x, y, how)
    assert torch.equal(outcome.also["attacked_8bit"].predictions, outcome.attacked.predictions)


def test_a_fixed_noise_is_one_for_all_images() -> None:
    x = torch.full((40, 1, 2, 2), 0.5)
    y = torch.zeros(40, dtype=torch.int64)
    how = settings(rung("oblivious", "clamp"), threat=ThreatModel(eps=1e-6), draws=3, score_fixed_noise=True)
    outcome = run(Pipeline(Threshold(0.5), None, Draws()), x, y, how)
    assert 0.2 < float(outcome.clean.correct(y).float().mean()) < 0.8
    for side in ("clean", "attacked"):
        answers = outcome.also[f"{side}_fixed_noise"].predictions
        assert answers.shape == (1, 40)
        assert len(set(answers.flatten().tolist())) == 1
    sure = settings(rung("oblivious", "clamp"), threat=ThreatModel(eps=1e-6), score_fixed_noise=True)
    assert run(Pipeline(Threshold(0.5)), x, y, sure).also == {}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    registry, out = grids.trained(), tmp_path_factory.mktemp("run")
    return registry, out, grids.run(registry, out, score_8bit=True, score_fixed_noise=True, draws=4, batch_size="auto")


def test_a_record_holds_every_way_to_count(measured: Measured) -> None:
    _, out, (record,) = measured
    frame = pd.read_parquet(out / "samples" / f"{record.cell_id}.parquet")
    for side, prefix in (("clean", "clean"), ("robust", "attacked")):
        images = (frame[f"{prefix}_prediction"] == frame.label).groupby(frame["index"])
        assert record.metrics[f"{side}_accuracy"] == pytest.approx(images.mean().mean())
        assert record.metrics[f"{side}_majority"] == pytest.approx((images.mean() > 0.5).mean())
        assert record.metrics[f"{side}_any_of_n"] == pytest.approx(images.all().mean())
        fixed = frame[f"{prefix}_fixed_noise_prediction"] == frame.label
        assert record.metrics[f"{side}_fixed_noise"] == pytest.approx(fixed.mean())
    assert record.metrics["robust_8bit"] == pytest.approx((frame.attacked_8bit_prediction == frame.label).mean())
    assert record.intervals.keys() >= {"robust_8bit", "clean_fixed_noise", "clean_any_of_n"}
    (line,) = lines.scorings([record])
    assert all(word in line for word in ("mean ", "majority ", "any of n ", "fixed noise ", "8 bits "))


def test_the_request_is_repeated(measured: Measured) -> None:
    registry, out, (record,) = measured
    assert request(record)["score_8bit"] is True
    assert {"--score-8bit", "--score-fixed-noise"} <= set(command(record).split())
    assert "tf32" not in request(record)
    finding = Verifier(registry).verify(record, out / "samples")
    assert (finding.verdict, finding.notes) == ("identical", ())


def test_without_the_options_nothing_changes(measured: Measured, tmp_path: Path) -> None:
    registry, _, (record,) = measured
    (plain,) = grids.run(registry, tmp_path, draws=4, batch_size="auto")
    assert plain.cell_id != record.cell_id
    assert not {"robust_8bit", "robust_fixed_noise"} & plain.metrics.keys()
    assert all(plain.metrics[name] == record.metrics[name] for name in plain.metrics)
    assert not {"score_8bit", "score_fixed_noise", "tf32"} & json.loads(dumped(plain))["attack"]["asked"].keys()


def test_columns_and_page_show_what_was_requested() -> None:
    figures = {"robust_8bit": 0.75, "clean_any_of_n": 0.5, "robust_any_of_n": 0.25}
    record = boards.record()
    record = parse(dumped(record.model_copy(update={"metrics": {**record.metrics, **figures}})))
    assert scorings([boards.record()]) == {}
    assert BY_NAME["8-bits"].text(boards.entry()) == ""
    entry = boards.entry(scorings=scorings([record]))
    assert (BY_NAME["8-bits"].text(entry), BY_NAME["any-of-n"].text(entry)) == ("75.0", "25.0")
    assert [scoring.name for scoring, _, _ in counted(entry)] == ["mean", "any of n", "8 bits"]
