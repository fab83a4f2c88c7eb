"""``rbmed certify`` as a user types it: rows, records, samples, resuming, verifying, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from helpers import paths
from helpers.command import invoke, own_folder
from helpers.paths import ROOT

from robustbench_med.grid.config import build
from robustbench_med.records.record import Record, dumped, parse, read
from robustbench_med.records.rerun import request

SYSTEM = "recipe:model=linear,strategy=pooled,purifier=[smoothed:sigma=0.1,denoiser=none,copies=2]"
FEW = ("--n0", "20", "--n", "200", "--limit", "8", "--attack", "pgd:steps=5", "--eps", "0.1", "--eps", "0.2")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def rbmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with own_folder(tmp_path_factory, 200):
        call = partial(invoke, "-p", paths.TOY)
        done = call("certify", "--dataset", "stripes", "--defense", SYSTEM, "--train", *FEW)
        assert done.exit_code == 0, done.output
        Path("first.txt").write_text(done.output)
        yield call


def records() -> list[Record]:
    return list(read(Path("results/records.jsonl")))


def test_both_bounds_stand_in_one_row_per_radius(rbmed: Run) -> None:
    text = Path("first.txt").read_text()
    assert "Certified and attacked, L2" in text
    assert "certificates of sigma 0.1: 200 samples (and 20 to choose the class), each holds" in text
    shown = rbmed("table", "results")
    assert "Certified and attacked, L2" in shown.output
    assert rbmed("report", "results", "--format", "md", "--out", "report.md").exit_code == 0
    assert "| Certified % [95 %] | Robust % [95 %] |" in Path("report.md").read_text(encoding="utf-8")
    small, large = records()
    assert (small.threat.norm, small.threat.eps, large.threat.eps) == ("l2", 0.1, 0.2)
    for record in (small, large):
        found = record.certified
        assert found is not None
        assert (found.n0, found.n, found.alpha, found.sigma) == (20, 200, 0.001, 0.1)
        assert not found.contradicted
        low, high = record.metrics["certified_accuracy"], record.metrics["robust_accuracy"]
        assert low is not None and high is not None and low <= high  # noqa: PT018
        assert record.metrics["certified_gap"] == pytest.approx(high - low)
        assert "certified_accuracy" in record.intervals
        assert record.per_client[record.clients[0]]["certified_accuracy"] is not None
        assert parse(dumped(record)) == record
    # The certificates are of the images, not of the attack.
    assert small.certified is not None
    assert large.certified is not None
    assert small.certified.curve == large.certified.curve


def test_the_samples_have_the_radius_of_each_image(rbmed: Run) -> None:
    for record in records():
        frame = pd.read_parquet(f"results/samples/{record.cell_id}.parquet")
        assert len(frame) == record.n == frame.patient.nunique()
        held = (frame.certified_radius >= record.threat.eps) & (frame.clean_prediction == frame.label)
        assert (held == frame.certified_held).all()
        assert held.mean() == record.metrics["certified_accuracy"]
        assert (frame.clean_rejected == (frame.certified_radius == 0)).all()
        robust = (frame.attacked_prediction == frame.label) | frame.attacked_rejected
        assert robust[held].all()


def test_the_same_command_measures_nothing_again_and_another_one_the_same(rbmed: Run) -> None:
    before = Path("results/records.jsonl").read_bytes()
    again = ("certify", "--dataset", "stripes", "--defense", SYSTEM, *FEW)
    assert rbmed(*again).exit_code == 0
    assert Path("results/records.jsonl").read_bytes() == before
    fresh = rbmed(*again, "--out", "fresh", "--no-share", "--batch-size", "3")
    assert fresh.exit_code == 0, fresh.output
    facts = [(r.cell_id, r.metrics, r.certified) for r in read(Path("fresh/records.jsonl"))]
    assert facts == [(r.cell_id, r.metrics, r.certified) for r in records()]
    other = rbmed(*again, "--out", "seed", "--seed", "1")
    assert other.exit_code == 0
    assert {r.cell_id for r in read(Path("seed/records.jsonl"))}.isdisjoint(r.cell_id for r in records())


def test_a_record_with_certificates_is_verified(rbmed: Run) -> None:
    asked = request(records()[0])
    assert {"certify": True, "n0": 20, "n": 200, "alpha": 0.001}.items() <= asked.items()
    assert build(asked).certification == build({"certify": True, "n0": 20, "n": 200}).certification
    done = rbmed("verify", "results")
    assert done.exit_code == 0, done.output
    assert "identical" in done.output


def test_a_record_without_certificates_has_none_and_its_cell_is_another(rbmed: Run) -> None:
    plain = ("run", "--dataset", "stripes", "--defense", SYSTEM, "--baseline", "", "--access", "full", "--norm", "l2")
    done = rbmed(*plain, "--limit", "4", "--attack", "pgd:steps=2", "--eps", "0.1", "--out", "plain")
    assert done.exit_code == 0, done.output
    (record,) = read(Path("plain/records.jsonl"))
    assert record.certified is None
    assert "certified_accuracy" not in record.metrics
    assert json.loads(Path("plain/records.jsonl").read_text())["certified"] is None


def test_a_contradiction_is_said_loudly(rbmed: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "liar.py"
    plugin.write_text(
        "import robustbench_med as rbmed\n"
        "class Liar(rbmed.Purifier):\n"
        "    sigma = 1.0\n"
        "    def purify(self, x, strength, rng):\n"
        "        return (x + 0.01 * rng.normal(tuple(x.shape))).clamp(0, 1)\n"
        "@rbmed.hookimpl\n"
        "def rbmed_purifiers():\n"
        "    yield rbmed.PurifierSpec(name='liar', target='liar:Liar', summary='Claims more noise than it adds')\n"
    )
    liar = "recipe:model=linear,strategy=pooled,purifier=liar"
    few = ("--n0", "20", "--n", "200", "--limit", "8", "--attack", "pgd:steps=20", "--eps", "1")
    done = rbmed("-p", str(plugin), "certify", "--dataset", "stripes", "--defense", liar, "--out", "liar", *few)
    assert done.exit_code == 1, done.output
    assert "CONTRADICTION: " in done.output
    (record,) = read(Path("liar/records.jsonl"))
    assert record.certified is not None
    assert record.certified.contradicted
    assert "certificate-contradicted" in record.diagnostics.flags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--defense", "bare"), "--certify: bare has no certificate: it has no purifier that adds Gaussian noise"),
        (("--defense", "guarded"), "its purifier 'blur' is no randomized smoothing"),
        (
            ("--defense", f"{SYSTEM},detector=roughness"),
            "has no certificate: its detector decides which images the noise is added to",
        ),
        (
            ("--defense", SYSTEM, "--norm", "linf"),
            "--certify: certificates are radii in l2, not in linf; use --norm l2",
        ),
        (("--defense", SYSTEM, "--n", "0"), "--n 0 on the command line: "),
        (("--defense", SYSTEM, "--n0", "-1"), "--n0 -1 on the command line: "),
        (("--defense", SYSTEM, "--n0", "50", "--n", "10"), "--n0 50 on the command line is more than --n 10: "),
        (("--defense", SYSTEM, "--alpha", "0"), "--alpha 0.0 on the command line: "),
        (("--defense", SYSTEM, "--alpha", "0.5"), "--alpha 0.5 on the command line: "),
        (("--defense", SYSTEM, "--alpha", "nan"), "--alpha nan on the command line: "),
        (("--defense", "smoothed:sigma=0"), "sigma='0'"),
        (("--defense", "smoothed:sigma=inf"), "sigma='inf'"),
        (("--defense", "smoothed:denoiser=jpg"), "unknown purifier 'jpg'"),
    ],
)
def test_what_cannot_be_certified_is_refused_in_one_line(rbmed: Run, words: tuple[str, ...], message: str) -> None:
    done = rbmed("certify", "--dataset", "stripes", "--out", "refused", *words)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not Path("refused").exists()


@pytest.mark.parametrize("option", [("--n", "10"), ("--n0", "10"), ("--alpha", "0.01")])
def test_options_of_certificates_need_them(rbmed: Run, option: tuple[str, str]) -> None:
    done = rbmed("run", "--dataset", "stripes", *option)
    assert done.exit_code == 2
    assert "is of certificates; add --certify" in done.output


def test_a_threat_replaces_the_norm_and_the_radii_of_the_command() -> None:
    from robustbench_med.cli.commands.certify import DEFAULTS

    made = build({"certify": True, "threat": ["l2:0.7"]}, None, DEFAULTS)
    assert [(threat.norm, threat.eps) for threat in made.threats] == [("l2", 0.7)]
    assert [threat.eps for threat in build({"certify": True}, None, DEFAULTS).threats] == [0.25, 0.5]
    shipped = build({"certify": True}, ROOT / "configs" / "certify-brainsim.toml", DEFAULTS)
    assert shipped == build({}, ROOT / "configs" / "certify-brainsim.toml")
