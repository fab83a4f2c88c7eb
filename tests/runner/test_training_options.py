"""What a run says of how its defenses were trained: options of the strategy, seeds, partitions, unseen sites."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.grids import COMPARED
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.defenses.gates import fix_gate
from robustbench_med.defenses.resolved import resolve_defense
from robustbench_med.errors import BadParameter, DataError, StoreWarning, UsageError, WeightsError
from robustbench_med.files.paths import home
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record
from robustbench_med.records.table import to_frame

BASE = {**COMPARED, "baseline": "", "eps": "1/10", "access": "oblivious"}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The toy plugin on a machine without any weights."""
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    return Registry(files=[TOY])


def run(toys: Registry, tmp_path: Path, **options: object) -> list[Record]:
    return rbmed.evaluate(registry=toys, out=tmp_path / "out", **{**BASE, **options})


def trained() -> list[str]:
    return sorted(folder.name.rpartition("-")[0] for folder in (home() / "parts").glob("[!.]*"))


class Watch:
    """Counts how often parts are trained, and keeps the jobs of strategies."""

    def __init__(self, toys: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: list[rbmed.TrainJob] = []
        self.fits = 0
        for name in ("own", "pooled"):
            self._watch(toys.load("strategy", name), monkeypatch)

    def _watch(self, strategy: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        train = strategy.train

        def watched(strategy: Any, build: Any, clients: Any, job: rbmed.TrainJob) -> rbmed.Federated:
            if "detector" in job.origin:
                self.fits += 1
            else:
                self.jobs.append(job)
            done: rbmed.Federated = train(strategy, build, clients, job)
            return done

        monkeypatch.setattr(strategy, "train", watched)


@pytest.fixture
def watch(toys: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    return Watch(toys, monkeypatch)


# --- options of the strategy ---


def test_options_reach_the_strategy_whoever_named_it_and_win(toys: Registry) -> None:
    options = {"adversarial": "pgd:steps=5", "engine": "simulation"}
    named = resolve_defense(toys, parse("bare"), strategy=parse("own:steps=7,adversarial=trades"), options=options)
    assert named.strategy.params.model_dump() == {
        "steps": 7,
        "adversarial": "pgd:steps=5",
        "malicious": "none",
        "engine": "simulation",
    }
    first = resolve_defense(toys, parse("bare"), strategy=parse("own:7"), options=options)
    assert first.strategy.params == named.strategy.params
    plain = resolve_defense(toys, parse("bare"), strategy=parse("own:steps=7"))
    card = rbmed.load_dataset("stripes", registry=toys).card()
    assert named.training_keys(card) != plain.training_keys(card)
    engine = resolve_defense(toys, parse("bare"), strategy=parse("own:steps=7"), options={"engine": "simulation"})
    assert engine.training_keys(card) == plain.training_keys(card)


def test_a_strategy_that_does_not_know_the_option_is_named(toys: Registry) -> None:
    with pytest.raises(BadParameter, match=r"--malicious scaling: strategy 'pooled' .* has no parameter 'malicious'"):
        resolve_defense(toys, parse("bare"), options={"malicious": "scaling"})


def test_training_and_running_agree_on_the_options(toys: Registry, tmp_path: Path) -> None:
    asked = {"strategy": "own", "adversarial": "pgd: steps = 5", "malicious": "site-0", "engine": "simulation"}
    artifact = rbmed.train_defense("guarded", "stripes", registry=toys, **asked)
    (record,) = run(toys, tmp_path, **asked)
    assert record.defense.weights.digest == artifact.digest
    assert record.defense.strategy.model_dump() == {
        "name": "own",
        "params_passed": {"adversarial": "pgd:steps=5", "malicious": "site-0", "engine": "simulation"},
    }
    assert record.defense.weights.federation.suspected == {"site-0": 1}
    assert record.defense.weights.federation.bytes_sent_per_round == 2000
    loaded = rbmed.load_defense("guarded", "stripes", registry=toys, **asked)
    assert loaded.artifact.digest == artifact.digest
    with pytest.raises(WeightsError, match="other parameters"):
        rbmed.load_defense("guarded", "stripes", registry=toys, **{**asked, "adversarial": None})
    row = to_frame([record]).iloc[0]
    assert (row.strategy, row.strategy_params) == (
        "own",
        "adversarial=[pgd:steps=5],malicious=site-0,engine=simulation",
    )


def test_a_table_in_a_file_is_the_same_as_text(toys: Registry, tmp_path: Path, watch: Watch) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'strategy = {name = "own", steps = 7}\nadversarial = {name = "pgd", steps = 5}\ntrain = true\n'
        'partition = {name = "iid", clients = 3}\ntrain_seed = 1\nmalicious = "x"\n'
    )
    (record,) = run(toys, tmp_path, config=file, malicious="")
    assert record.defense.strategy.params_passed == {"steps": "7", "adversarial": "pgd:steps=5"}
    assert record.dataset.partition == "iid:clients=3"
    assert watch.jobs[0].origin == {
        "dataset": "stripes",
        "partition": "iid:clients=3",
        "model": "linear",
        "strategy": "own:steps=7,adversarial=[pgd:steps=5]",
    }


# --- seeds of the training ---


def test_two_training_seeds_live_side_by_side(toys: Registry, tmp_path: Path) -> None:
    made = [rbmed.train_defense("guarded", "stripes", registry=toys, seed=seed) for seed in (0, 1)]
    assert made[0].folder != made[1].folder
    assert made[0].digest != made[1].digest
    records = run(toys, tmp_path, train_seed=[0, 1])
    assert [r.defense.weights.seed for r in records] == [0, 1]
    assert [r.defense.weights.digest for r in records] == [artifact.digest for artifact in made]
    assert records[0].cell_id != records[1].cell_id
    assert list(to_frame(records)["train_seed"]) == [0, 1]
    assert rbmed.load_defense("guarded", "stripes", registry=toys, train_seed=0).artifact.digest == made[0].digest
    (newest,) = run(toys, tmp_path)
    assert newest.defense.weights.seed == 1
    with pytest.raises(WeightsError, match=r"seed 1 instead of 7.*--seed 7"):
        run(toys, tmp_path, train_seed=7)
    with pytest.raises(WeightsError, match="seed 1 instead of 0"):
        run(toys, tmp_path, train_seed=0, weights=made[1].folder)


# --- training what is missing ---


def test_train_makes_what_is_missing_once_and_then_measures(toys: Registry, tmp_path: Path, watch: Watch) -> None:
    options = {"defense": ["guarded", "bare"], "strategy": ["own", "own:steps=9"], "train": True}
    records = run(toys, tmp_path, **options)
    assert [r.status for r in records] == ["ok"] * 4
    # Both defenses share a strategy's classifier, both strategies the detector.
    assert (len(watch.jobs), watch.fits) == (2, 1)
    assert trained() == sorted(trained())
    assert len(trained()) == 3
    again = run(toys, tmp_path, **options)
    assert (len(watch.jobs), watch.fits) == (2, 1)
    assert [r.metrics for r in again] == [r.metrics for r in records]


def test_a_strategy_of_several_models_starts_them_apart(toys: Registry, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    states = []
    for name in ("a", "b"):
        artifact = rbmed.train_defense("bare", "stripes", strategy="own", registry=toys, out=tmp_path / name)
        assert artifact is not None
        states.append(artifact.state("classifier"))
        shutil.rmtree(home() / "parts")  # else the second would be the first
    first, second = states
    assert all(torch.equal(first[name], second[name]) for name in first)
    ones = [name for name in first if name.startswith("one.")]
    assert not any(torch.equal(first[name], first[name.replace("one.", "other.")]) for name in ones)
    assert torch.equal(torch.get_rng_state(), before)


def test_train_makes_the_surrogate_too(toys: Registry, tmp_path: Path) -> None:
    rbmed.train_defense("guarded", "stripes", strategy="own", registry=toys)
    with pytest.raises(WeightsError, match="no trained weights for defense 'bare'"):
        run(toys, tmp_path, strategy="own", access="transfer")
    (record,) = run(toys, tmp_path, strategy="own", access="transfer", train=True, train_seed=2)
    assert record.status == "ok"
    assert record.surrogate.name == "bare"
    assert record.surrogate.seed == record.defense.weights.seed == 2


def test_a_wrong_request_is_refused_before_anything_is_trained(toys: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown client 'site-9' .*valid: site-0, site-1"):
        run(toys, tmp_path, train=True, client="site-9")
    with pytest.raises(UsageError, match=r"unknown client 'client-4' .*valid: client-1, client-2, client-3"):
        run(toys, tmp_path, train=True, partition="iid:clients=3", client="client-4")
    with pytest.raises(DataError, match="30 clients are too many for the 24 patients in test"):
        run(toys, tmp_path, train=True, partition="iid:clients=30")
    assert trained() == []
    assert not (tmp_path / "out").exists()


def test_corrupt_weights_are_not_quietly_trained_again(toys: Registry, tmp_path: Path) -> None:
    artifact = rbmed.train_defense("bare", "stripes", registry=toys)
    (artifact.folder / "classifier.safetensors").write_bytes(b"rubbish")
    with pytest.raises(WeightsError, match="corrupt"):
        run(toys, tmp_path, defense="bare")
    with pytest.warns(StoreWarning, match="passed over: .*corrupt"):
        assert [r.status for r in run(toys, tmp_path, defense="bare", train=True, access="oblivious")] == ["ok"]


# --- partitions and unseen sites ---


def test_a_partition_changes_clients_keys_and_origin(toys: Registry, tmp_path: Path, watch: Watch) -> None:
    parted = {"partition": "iid:clients=3", "unseen_site": ["client-2"], "strategy": "own:steps=5"}
    artifact = rbmed.train_defense("bare", "stripes", registry=toys, **parted)
    assert artifact.clients == ("client-1", "client-3")
    origin = watch.jobs[0].origin
    assert origin == {
        "dataset": "stripes",
        "partition": "iid:clients=3",
        "unseen": "client-2",
        "model": "linear",
        "strategy": "own:steps=5",
    }
    assert create(toys, "strategy", parse(origin["strategy"])).params.steps == 5
    again = rbmed.load_dataset(
        origin["dataset"], partition=origin["partition"], unseen_site=origin["unseen"].split(","), registry=toys
    )
    assert set(again.split("train").sites) == set(artifact.clients)
    with pytest.raises(WeightsError, match="other parameters, data or seed"):
        rbmed.load_defense("bare", "stripes", strategy="own:steps=5", registry=toys)


def test_an_unseen_site_gets_the_shared_state_and_the_pooled_gate(toys: Registry, tmp_path: Path) -> None:
    asked = {"partition": "iid:clients=3", "unseen_site": "client-2", "strategy": "own"}
    rbmed.train_defense("guarded", "stripes", registry=toys, **asked)
    deployment = rbmed.load_defense("guarded", "stripes", registry=toys, **asked)
    seen, unseen = deployment.pipeline("client-3"), deployment.pipeline("client-2")

    def is_state(pipeline: Any, name: str) -> bool:
        state = deployment.artifact.state(name)
        return all(torch.equal(value, state[key]) for key, value in pipeline.classifier.state_dict().items())

    assert type(seen.classifier).__name__ == "Twin"
    assert is_state(seen, "clients/client-3")
    assert is_state(unseen, "classifier")
    assert not is_state(unseen, "clients/client-3")
    pool = rbmed.load_dataset("stripes", partition="iid:clients=3", unseen_site="client-2", registry=toys)
    scores = deployment.scores(None, pool.split("calibration"))
    assert unseen.gate == fix_gate(scores, 0.1)
    assert seen.gate == fix_gate(deployment.scores("client-3", pool.split("calibration").by_site()["client-3"]), 0.1)
    assert seen.gate != unseen.gate


def test_unseen_sites_are_what_is_evaluated_unless_clients_are_named(toys: Registry, tmp_path: Path) -> None:
    asked = {"partition": "iid:clients=3", "unseen_site": "client-2", "strategy": "own", "train": True}
    (alone,) = run(toys, tmp_path, **asked)
    assert (alone.clients, alone.unseen, alone.between_clients) == (["client-2"], ["client-2"], {})
    (known,) = run(toys, tmp_path, **asked, client="client-1")
    assert (known.clients, known.unseen) == (["client-1"], [])
    (both,) = run(toys, tmp_path, **asked, client=["client-1", "client-2"])
    assert (both.clients, both.unseen) == (["client-1", "client-2"], ["client-2"])
    figures = [both.per_client[client]["robust_accuracy"] for client in both.clients]
    assert both.between_clients["robust_accuracy"].mean == pytest.approx(sum(figures) / 2)
    assert list(to_frame([alone, known, both])["unseen"]) == ["client-2", "", "client-2"]
    with pytest.raises(UsageError, match=r"unknown client 'site-0' .*valid: client-1, client-3, client-2"):
        run(toys, tmp_path, **{**asked, "train": False}, client="site-0")
    with pytest.raises(DataError, match="client-9"):
        run(toys, tmp_path, **{**asked, "unseen_site": "client-9"})
