"""Records of the toy plugin are measured again and compared."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from helpers.first_runs import Run, claim, finished, forged
from helpers.paths import TOY

from robustbench_med.errors import BadConfig
from robustbench_med.files.paths import home
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.folder import open_results
from robustbench_med.records.rerun import command, request
from robustbench_med.reproduction.verify import Verifier


@pytest.fixture(scope="module")
def rbmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with finished(tmp_path_factory) as run:
        yield run


def test_every_kind_of_cell_is_verified_as_identical(rbmed: Run) -> None:
    for folder in ("first", "plain"):
        done = rbmed("verify", folder)
        assert done.exit_code == 0, done.output
        lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
        assert len(lines) >= 4
        assert all(line.startswith("identical ") for line in lines[:-1]), done.output


def test_what_a_record_asks_for_is_what_was_asked(rbmed: Run) -> None:
    asked = {record.threat.access: request(record) for record in open_results(Path("plain"))}
    assert asked["gate"] == {
        "dataset": "stripes:test=16",
        "unseen_site": ["site-1"],
        "client": ["site-1"],
        "model": "linear",
        "strategy": "own:steps=5",
        "malicious": "site-0",
        "train_seed": "1",
        "defense": {"name": "guarded", "fpr": "0.2"},
        "baseline": "",
        "norm": "linf",
        "eps": 0.1,
        "goal": "hide-lesion",
        "evasion": "joint:0.5",
        "stand_in": "blur",
        "eot": 2,
        "precision": "float32",
        "max_gradients": 50,
        "limit": 6,
        "seed": 3,
        "draws": 3,
        "diagnostics": "full",
        "access": "gate",
        "attack": "shift:factor=0.75",
    }
    assert asked["ladder"]["attack"] == "shift:factor=0.75"
    assert asked["transfer"]["surrogate"] == "bare"


def test_the_command_of_a_record_measures_its_cell_again(rbmed: Run) -> None:
    measured = [each for folder in ("first", "plain") for each in open_results(Path(folder)) if each.status == "ok"]
    assert {each.role for each in measured} == {"claim", "probe", "cell"}
    for record in measured:
        words = shlex.split(command(record))
        done = rbmed(*words[1:])
        assert done.exit_code == 0, (words, done.output)
        assert record.metrics in [again.metrics for again in open_results(Path(words[-1]))], words


def verified(rbmed: Run, folder: Path) -> Result:
    return rbmed("verify", folder, "--cell", claim(folder).cell_id)


def test_a_forged_figure_is_found(rbmed: Run) -> None:
    def better(facts: dict[str, object]) -> None:
        facts["metrics"]["robust_accuracy"] -= 0.001  # type: ignore[index]

    done = verified(rbmed, forged("forged", better))
    assert done.exit_code == 1
    assert done.stdout.startswith("differs ")
    assert "robust_accuracy: 0." in done.stdout
    assert "0 of 1 cell is verified" in done.stdout


def test_a_forged_id_and_forged_images_are_found(rbmed: Run) -> None:
    def other(facts: dict[str, object]) -> None:
        facts["cell_id"] = "f" * 16

    assert "cell id: ffffffffffffffff -> " in verified(rbmed, forged("forged", other)).stdout
    folder = forged("forged", lambda facts: None)
    shutil.copytree("first/samples", folder / "samples")
    assert verified(rbmed, folder).exit_code == 0
    file = folder / "samples" / f"{claim(folder).cell_id}.parquet"
    frame = pd.read_parquet(file)
    frame.loc[0, "attacked_prediction"] = 1 - frame.loc[0, "attacked_prediction"]
    frame.to_parquet(file, index=False)
    done = verified(rbmed, folder)
    assert done.exit_code == 1
    assert f"1 of {frame['index'].nunique()} images differ" in done.stdout
    file.write_bytes(b"PAR1 no longer")
    assert "cannot be read" in verified(rbmed, folder).stdout


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("dataset", "digest"), "data set: digest 0000 -> stripes-24"),
        (("defense", "weights", "digest"), "here, not 0000; training depends on the processor"),
    ],
)
def test_another_digest_is_said_as_such(rbmed: Run, path: tuple[str, ...], words: str) -> None:
    def other(facts: dict[str, object]) -> None:
        for key in path[:-1]:
            facts = facts[key]  # type: ignore[assignment]
        facts[path[-1]] = "0000"

    done = verified(rbmed, forged("forged", other))
    assert done.exit_code == 1
    assert done.stdout.startswith("digest ")
    assert words in done.stdout


def test_corrupt_weights_are_said_as_such(rbmed: Run) -> None:
    (folder,) = [f for f in (home() / "artifacts").glob("guarded-*-0") if not f.name.startswith(".")]
    file = folder / "classifier.safetensors"
    good = file.read_bytes()
    try:
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        done = verified(rbmed, Path("first"))
    finally:
        file.write_bytes(good)
    assert done.exit_code == 1
    assert done.stdout.startswith("digest ")
    assert "their digest differs from the manifest's" in done.stdout


def test_figures_of_another_machine_may_lie_within_the_interval(rbmed: Run) -> None:
    def moved(facts: dict[str, object]) -> None:
        metrics, intervals = facts["metrics"], facts["intervals"]
        low, high = intervals["clean_accuracy"]  # type: ignore[index]
        metrics["clean_accuracy"] = (low + high) / 2  # type: ignore[index]
        facts["provenance"]["hardware"]["processor"] = "another"  # type: ignore[index]

    folder = forged("elsewhere", moved)
    done = verified(rbmed, folder)
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith("within ")
    assert "hardware.processor: another -> " in done.stdout
    assert "0 of 1 cell is verified; 1 within sampling error only, which is no proof" in done.stdout
    done = rbmed("verify", folder, "--cell", claim(folder).cell_id, "--accept-within")
    assert done.exit_code == 0, done.output

    def far(facts: dict[str, object]) -> None:
        moved(facts)
        facts["metrics"]["clean_accuracy"] = 0.1  # type: ignore[index]
        facts["intervals"]["clean_accuracy"] = [0.0, 1.0]  # type: ignore[index]

    assert verified(rbmed, forged("elsewhere", far)).stdout.startswith("differs ")


def test_a_record_of_an_older_format_says_why_it_cannot_be_run_again(rbmed: Run) -> None:
    def old(facts: dict[str, object]) -> None:
        del facts["attack"]["asked"]  # type: ignore[attr-defined]

    folder = forged("old", old)
    done = verified(rbmed, folder)
    assert done.exit_code == 1
    assert done.stdout.startswith("impossible ")
    assert "does not hold the options of its run" in done.stdout
    with pytest.raises(BadConfig, match="does not hold the options of its run"):
        request(claim(folder))


@pytest.mark.parametrize("part", ["dataset", "attack", "defense"])
def test_a_record_cannot_ask_for_more_than_its_cell(rbmed: Run, part: str) -> None:
    def greedy(facts: dict[str, object]) -> None:
        facts[part]["asked"] |= {"train": "true"}  # type: ignore[index]

    done = verified(rbmed, forged("greedy", greedy))
    assert done.exit_code == 1
    assert "has the option 'train', which is not one of a cell" in done.stdout


def test_verify_leaves_nothing_and_samples_repeatably(rbmed: Run) -> None:
    before = sorted(Path().rglob("*"))
    drawn = [rbmed("verify", "first", "--sample", "1", "--sample-seed", seed, "--json") for seed in (0, 0, 1, 2, 3)]
    ids = [[entry["cell_id"] for entry in json.loads(done.stdout)] for done in drawn]
    assert ids[0] == ids[1]
    assert len({tuple(each) for each in ids}) > 1
    assert all(len(each) == 1 for each in ids)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("verify", "nowhere"), "there is no file or folder nowhere"),
        (("verify", "first", "--cell", "zzz"), "0 measured cells have an id that begins with this"),
        (("verify", "first", "--device", "cuda:9"), "CUDA devices found"),
        (("diff", "first", "nowhere"), "there is no file or folder nowhere"),
        (("merge", "first", "--out", "first"), "is there already"),
        (("merge", "first", "nowhere", "--out", "new"), "nowhere is no folder"),
        (("export", "first", "--format", "parquet"), "--format parquet is binary"),
        (("export", "first", "--format", "xml"), "is not one of"),
        (("export", "first", "--out", "."), "is a folder"),
        (("export", "first", "--out", "a.xlsx"), "the ending says no format; valid: .csv, .parquet, .json"),
        (("export", "first", "--format", "csv", "--out", "a.parquet"), "ends as parquet, and --format says csv"),
        (("table", "nowhere"), "there is no file or folder nowhere"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(rbmed: Run, args: tuple[str, ...], words: str) -> None:
    done = rbmed(*args)
    assert words in done.output
    assert done.exit_code == (1 if "--device" in args else 2), done.output
    assert not Path("new").exists()


def test_a_record_keeps_where_it_came_from_and_no_paths(rbmed: Run) -> None:
    text = Path("first/records.jsonl").read_text() + Path("plain/records.jsonl").read_text()
    record = claim(Path("first"))
    assert {"versions", "commit", "command", "hardware", "device", "flags"} == record.provenance.model_fields_set
    assert {"processor", "threads", "cores", "instructions"} <= record.provenance.hardware.model_fields_set
    assert record.dataset.revision == record.defense.revision == record.attack.revision == 1
    for path in (str(home()), str(Path.cwd()), str(TOY.parent)):
        assert path not in text


def test_verifier_uses_the_threads_of_the_record(rbmed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    record = claim(Path("first"))
    provenance = record.provenance
    hardware = provenance.hardware.model_copy(update={"threads": 3})
    record = record.model_copy(update={"provenance": provenance.model_copy(update={"hardware": hardware})})
    Verifier(Registry(files=[TOY])).verify(record)
    assert asked == [3, torch.get_num_threads()]
