"""Weights on a hub that runs here: pushed, and used again wherever a folder of weights may be named."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from helpers import paths
from helpers.command import invoke
from helpers.local_hub import LocalHub, Repository, local_hub

import robustbench_med as rbmed
from robustbench_med.defenses import hub as weights_on_hub
from robustbench_med.errors import Note
from robustbench_med.files.hub_name import HubName
from robustbench_med.leaderboard.render.model_card import Weights, model_card
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record, read

constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
RUN = ("--dataset", "stripes", "--baseline", "", "--eps", "1/10", "--attack", "shift", "--limit", "8")


def call(*args: str, token: str = "") -> Result:
    env = {"HF_TOKEN": token} if token else {}
    return invoke("-p", paths.TOY, *args, env=env)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A hub, and no other; nobody is logged in."""
    with local_hub() as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.address)
        template = f"{made.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        weights_on_hub._fetched.cache_clear()
        yield made


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of the toy defense, ``weights``, and what was measured of them, ``results``."""
    place = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("COLUMNS", "200")
        patch.chdir(place)
        trained = call("train", "guarded", "--dataset", "stripes", "--out", "weights")
        assert trained.exit_code == 0, trained.output
        done = call("run", "--defense", "guarded", "--weights", "weights", *RUN)
        assert done.exit_code == 0, done.output
    return place


@pytest.fixture
def work(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a cache without any weights."""
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def records(folder: Path) -> list[Record]:
    return list(read(folder / "records.jsonl"))


def pushed(hub: LocalHub, measured: Path) -> str:
    done = call("push", str(measured / "weights"), "lab/net", "--records", str(measured / "results"), token=hub.token)
    assert done.exit_code == 0, done.output
    assert hub.token not in done.output
    return done.output.rpartition("@")[2].strip()


@pytest.mark.long
def test_what_is_pushed_gives_the_same_records_from_the_hub(hub: LocalHub, measured: Path, work: Path) -> None:
    commit = pushed(hub, measured)
    files = hub.repositories["lab/net"].commits[commit]
    assert {name.rpartition(".")[2] for name in files} == {"safetensors", "json", "md", "gitattributes"}
    assert "calibration.json" not in files
    assert str(measured).encode() not in b"".join(files.values())
    hub.repositories["lab/net"].tags["v1"] = commit
    for revision, said in ((f"@{commit}", False), ("@v1", True), ("@main", True), ("", True)):
        done = call(
            "run", "--defense", "guarded", "--weights", f"hf:lab/net{revision}", *RUN, "--out", f"out{revision}"
        )
        assert done.exit_code == 0, done.output
        assert (f"hf:lab/net{revision} is hf:lab/net@{commit}" in done.output) == said
        for before, again in zip(records(measured / "results"), records(work / f"out{revision}"), strict=True):
            assert (again.cell_id, again.metrics, again.intervals) == (before.cell_id, before.metrics, before.intervals)
            assert again.defense.weights.digest == before.defense.weights.digest
            assert again.defense.weights.source == f"hf:lab/net@{commit}"
            assert before.defense.weights.source == ""
    assert sum(each.startswith("GET") and each.endswith("classifier.safetensors") for each in hub.asked) == 1
    # What was measured from a folder is verified from the hub, and what was measured from the hub by what is here.
    name = f"hf:lab/net@{commit}"
    for words in ((str(measured / "results"), "--weights", name), (f"out@{commit}",)):
        verified = call("verify", *words)
        assert verified.exit_code == 0, verified.output
        assert "2 of 2 cells are verified" in verified.output


def test_the_python_functions_take_weights_from_the_hub(hub: LocalHub, measured: Path, work: Path) -> None:
    commit = pushed(hub, measured)
    known = Registry(files=[paths.TOY])
    loaded = rbmed.load_defense("guarded", "stripes", weights=f"hf:lab/net@{commit}", registry=known)
    assert loaded.artifact.source == f"hf:lab/net@{commit}"
    options = {"dataset": "stripes", "baseline": "", "attack": "shift", "eps": 0.1, "limit": 8, "registry": known}
    with pytest.warns(Note, match=f"hf:lab/net is hf:lab/net@{commit}"):
        found = rbmed.evaluate(defense="guarded", weights="hf:lab/net", **options)
    assert {record.defense.weights.source for record in found} == {f"hf:lab/net@{commit}"}


def test_planning_and_certificates_use_them_too(hub: LocalHub, measured: Path, work: Path) -> None:
    commit = pushed(hub, measured)
    named = ("--defense", "guarded", "--weights", f"hf:lab/net@{commit}", "--dataset", "stripes", "--attack", "shift")
    planned = call("plan", *named, "--baseline", "", "--limit", "8")
    assert planned.exit_code == 0, planned.output
    certified = call("certify", "--weights", "hf:lab/gone@main", "--dataset", "stripes")
    assert certified.exit_code == 2
    assert "hf:lab/gone@main: there is no such name on the hub" in certified.output


def test_weights_in_the_cache_need_no_network(
    hub: LocalHub, measured: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = pushed(hub, measured)
    weights_on_hub.fetch(weights_on_hub.hub_name(f"lab/net@{commit}"))
    weights_on_hub._fetched.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert call("run", "--defense", "guarded", "--weights", f"hf:lab/net@{commit}", *RUN).exit_code == 0
    unreachable(["hf:lab/net@main"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    unreachable(["hf:lab/net@main", f"hf:lab/net@{'0' * 40}"])


def unreachable(names: list[str]) -> None:
    for name in names:
        refused = call("run", "--defense", "guarded", "--weights", name, *RUN)
        assert refused.exit_code == 2
        assert f"{name}: the hub cannot be reached" in refused.output
        assert len(refused.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:lab/gone@main", "hf:lab/gone@main: there is no such name on the hub, or it is private (401)"),
        ("hf:lab/secret@main", "hf:lab/secret@main: there is no such name on the hub, or it is private (401)"),
        ("hf:lab/net@v2", "the hub has no such revision 'v2'"),
        (f"hf:lab/net@{'0' * 40}", f"the hub has no such revision '{'0' * 40}'"),
        ("hf:lab/text", "there is no manifest.json on the hub; `rbmed push` puts weights there"),
        ("hf:net", "'hf:net' is no name on the hub; valid: hf:OWNER/NAME@REVISION"),
        ("hf:lab/net@", "is no name on the hub"),
        ("hf:lab/net@../../x", "is no name on the hub"),
        ("hf:../net@main", "is no name on the hub"),
        ("hf:https://someone@host/lab/net", "is no name on the hub"),
    ],
)
def test_what_the_hub_does_not_give_is_said_in_one_line(
    hub: LocalHub, measured: Path, work: Path, name: str, said: str
) -> None:
    pushed(hub, measured)
    hub.repositories["lab/secret"] = Repository(private=True)
    hub.repositories["lab/text"] = Repository()
    hub.repositories["lab/text"].commit({"README.md": b"text"})
    for command in (("run", "--defense", "guarded", *RUN), ("verify", str(measured / "results"))):
        if command[0] == "verify" and "no name" in said:
            continue
        done = call(*command, "--weights", name)
        assert done.exit_code == 2, done.output
        assert said in done.output
        assert len(done.output.strip().splitlines()) <= 3
    assert not (work / "results").exists()


def manifest(measured: Path, **changes: object) -> bytes:
    facts = json.loads((measured / "weights" / "manifest.json").read_text())
    return json.dumps({**facts, **changes}).encode()


@pytest.mark.parametrize(
    "file",
    ["../../escaped.safetensors", "/tmp/escaped.safetensors", "a/../../b.safetensors", "x.pkl", "a\\..\\b.safetensors",
     "clients//x.safetensors", "./classifier.safetensors", ".safetensors", "C:/x.safetensors", "x\n.safetensors", ""],
)  # fmt: off
def test_no_file_of_a_manifest_leaves_the_folder(
    hub: LocalHub, measured: Path, work: Path, tmp_path: Path, file: str
) -> None:
    commit = pushed(hub, measured)
    evil = hub.repositories["lab/net"].commit({"manifest.json": manifest(measured, files={file: "0" * 64})})
    before = {path for path in tmp_path.rglob("*") if "home" not in path.parts}
    done = call("run", "--defense", "guarded", "--weights", f"hf:lab/net@{evil}", *RUN)
    assert done.exit_code == 2
    assert "which is no file of weights there" in done.output
    assert {path for path in tmp_path.rglob("*") if "home" not in path.parts} == before
    assert not list((tmp_path / "home").rglob("manifest.json"))
    assert evil != commit


@pytest.mark.parametrize("what", ["another state", "no safetensors", "no manifest"])
def test_damaged_weights_are_refused_and_not_kept(
    hub: LocalHub, measured: Path, work: Path, tmp_path: Path, what: str
) -> None:
    pushed(hub, measured)
    other = {
        "another state": {"classifier.safetensors": (measured / "weights" / "detector.safetensors").read_bytes()},
        "no safetensors": {"classifier.safetensors": b"not tensors"},
        "no manifest": {"manifest.json": b"{"},
    }[what]
    commit = hub.repositories["lab/net"].commit(other)
    done = call("run", "--defense", "guarded", "--weights", f"hf:lab/net@{commit}", *RUN)
    assert done.exit_code == 2
    assert f"hf:lab/net@{commit}: " in done.output
    assert str(tmp_path) not in done.output
    assert not list((tmp_path / "home").rglob("manifest.json"))


def card(folder: Path) -> tuple[dict[str, object], str]:
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_dry_run_writes_the_folder_and_sends_nothing(hub: LocalHub, measured: Path, work: Path) -> None:
    words = ("push", str(measured / "weights"), "lab/net", "--records", str(measured / "results"), "--dry-run")
    done = call(*words, "--license", "apache-2.0")
    assert done.exit_code == 0, done.output
    made = work / "push" / "lab--net"
    assert str(Path("push") / "lab--net") in done.output
    assert hub.asked == []
    front, body = card(made)
    assert front["license"] == "apache-2.0"
    assert "robustbench-med" in front["tags"]
    (index,) = front["model-index"]
    claim, _ = records(measured / "results")
    values = {each["name"]: each["value"] for result in index["results"] for each in result["metrics"]}
    assert values["Clean, %, no rank"] == round(100 * claim.metrics["clean_accuracy"], 1)
    robust = round(100 * claim.metrics["robust_accuracy"], 1)
    assert robust in values.values()
    for text in ("This row has no rank", "8 images of", "Linf", "Gradients / image", "--weights hf:lab/net@main"):
        assert text in body
    assert claim.defense.weights.digest in body
    assert "### guarded on stripes" in body
    assert rbmed.load_defense("guarded", "stripes", weights=made, registry=Registry(files=[paths.TOY]))
    assert call(*words).exit_code == 0  # it is ours, so it is written again
    (work / "mine").mkdir()
    refused = call(*words, "--out", "mine")
    assert refused.exit_code == 2
    assert "is there already, and holds no weights" in refused.output


def test_without_a_measurement_the_card_says_so(hub: LocalHub, measured: Path, work: Path) -> None:
    done = call("push", str(measured / "weights"), "lab/net", "--dry-run")
    assert done.exit_code == 0, done.output
    front, body = card(work / "push" / "lab--net")
    assert "model-index" not in front
    assert front["license"] == "unknown"
    assert "there is no figure of how robust they are" in body


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("{w}", "lab/net@main"), "a push makes a revision of its own", 2),
        (("{w}", "net"), "is no name on the hub", 2),
        (("{w}", "lab/net", "--out", "x"), "is the folder of --dry-run", 2),
        (("gone", "lab/net"), "no trained weights in gone", 2),
        (("{w}", "lab/net", "--records", "gone"), "there is no file or folder gone", 2),
        (("{w}", "lab/net", "--records", "{board}"), "no measured record is of these weights", 2),
        (("{w}", "lab/other"), "lab/other on the hub holds something else (model.bin); choose another name", 2),
        (("{w}", "lab/open", "--private"), "lab/open is on the hub already, and public", 2),
    ],
)
def test_what_cannot_be_pushed_is_refused(
    hub: LocalHub, measured: Path, work: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    hub.repositories["lab/other"] = Repository()
    hub.repositories["lab/other"].commit({"model.bin": b""})
    hub.repositories["lab/open"] = Repository()
    hub.repositories["lab/open"].commit({".gitattributes": b""})
    board = paths.ROOT / "leaderboard" / "measurements" / "records" / "lgg.jsonl.gz"
    named = [word.format(w=measured / "weights", board=board) for word in words]
    before = {name: len(each.commits) for name, each in hub.repositories.items()}
    done = call("push", *named, token=hub.token)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert {name: len(each.commits) for name, each in hub.repositories.items()} == before


def test_a_token_that_the_hub_does_not_know_is_not_shown(hub: LocalHub, measured: Path, work: Path) -> None:
    done = call("push", str(measured / "weights"), "lab/net", token="hf_wrongtoken")
    assert done.exit_code == 1
    assert "(401)" in done.output
    assert "hf_wrongtoken" not in done.output
    assert "Traceback" not in done.output


def test_a_private_repository_is_made_and_read_with_its_token(hub: LocalHub, measured: Path, work: Path) -> None:
    done = call("push", str(measured / "weights"), "lab/net", "--private", token=hub.token)
    assert done.exit_code == 0, done.output
    assert hub.repositories["lab/net"].private
    commit = done.output.rpartition("@")[2].strip()
    words = ("run", "--defense", "guarded", "--weights", f"hf:lab/net@{commit}", *RUN)
    assert call(*words).exit_code == 2
    read_again = call(*words, token=hub.token)
    assert read_again.exit_code == 0, read_again.output
    assert hub.token not in (work / "results" / "records.jsonl").read_text()


def test_without_huggingface_hub_it_is_named(measured: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = call("run", "--defense", "guarded", "--weights", "hf:lab/net@main", *RUN)
    assert done.exit_code == 2
    assert "pip install 'robustbench-med[hub]'" in done.output


def test_the_card_of_published_weights_shows_the_ranked_rows_first() -> None:
    """From the records of the leaderboard, without a hub."""
    sources = read_sources(paths.ROOT / "leaderboard")
    digest = next(
        each.defense.weights.digest
        for board in sources.boards()
        for each in (entry.records[0] for section in board.sections for entry in section.entries if entry.ranked)
        if board.title == "brainsim (synthetic), Linf 4/255" and each.defense.name == "medfedpure-plus"
    )
    assert digest is not None
    name = HubName("lab/plus", "main")
    text = model_card(Weights(name, "apache-2.0", digest, {"files": {}}), sources.records, sources.outcomes)
    rows = text.split("\n### ")[1:]
    ranked = ["This row has no rank" not in row for row in rows]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0]
    assert "64 images of 48 patients" in rows[0]
    assert "100.0 [91, 100]" in rows[0]
    assert "--weights hf:lab/plus@main" in rows[0]
