"""``rbmed list | show | plugins | data``, paths and progress."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.distributions import GOOD, distribution
from rich.console import Console
from typer.testing import Result

from robustbench_med import __version__
from robustbench_med.cli.progress.bars import RichProgress
from robustbench_med.errors import BadConfig, DataError, HarnessError
from robustbench_med.files.paths import data_root, home, register_root

DATA = """
    import torch
    import robustbench_med as rbmed
    from robustbench_med.errors import DataError

    class Folder(rbmed.Dataset):
        def __init__(self, params=None, root=None, progress=None):
            super().__init__(params, root, progress)
            if root is not None and not (root / "marker").exists():
                raise DataError(f"{root} has no marker")

        def card(self):
            return rbmed.DataCard(
                name="folder", classes=("no", "yes"), channels=1, size=4, licence="CC0", citation="Unknown 2020",
                digest="abc", lesion_class=1, notes=("[one] note",),
            )

        def split(self, name):
            with self.progress.task("reading", 2) as task:
                task.advance(2, "ok")
            who = (name, name, name + "-2")
            return rbmed.Split(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 1]), who, ("b", "a", "a"))

        def check(self):
            return [f"{f} is empty" for f in sorted(self.root.glob("*.png")) if not f.stat().st_size]

    class Other(Folder):
        pass

    @rbmed.hookimpl
    def rbmed_datasets():
        for name in ("folder", "other"):
            yield rbmed.DatasetSpec(
                name=name, target=f"my_data:{name.capitalize()}", summary="Test images", licence="CC0", needs_root=True
            )
"""


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No plugin but those a test brings, and a home of its own."""
    before = set(sys.modules)
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RBMED_DATA", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    distribution(tmp_path, "rbmed-tgood", GOOD)
    distribution(tmp_path, "rbmed-tdead", "1 / 0")
    monkeypatch.setenv("RBMED_PLUGINS", "rbmed-tgood,rbmed-tdead")
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("rbmed_t", "my_")):
            del sys.modules[name]


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    distribution(tmp_path / "files", "my-data", DATA)
    return str(tmp_path / "files" / "my_data.py")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    folder.joinpath("marker").touch()
    return folder


def fails(result: Result, *parts: str, code: int = 2) -> None:
    """One line on stderr that holds all parts, nothing on stdout."""
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr


def test_list_shows_what_is_there_and_that_something_is_broken():
    result = invoke("list")
    assert result.exit_code == 0
    assert "push" in result.stdout
    assert "rbmed-tgood 1.2" in result.stdout
    assert "plugins that failed to load: 1; see 'rbmed plugins'" in result.stderr
    for name in ("attacks", "Attack", "ATTACKS"):
        assert invoke("list", name).stdout == invoke("list", "attack").stdout
        assert invoke("show", f"{name}/shift").stdout == invoke("show", "attack/shift").stdout


def test_list_as_json():
    (entry,) = json.loads(invoke("list", "--json").stdout)
    assert entry["kind"] == "attack"
    assert entry["qualified"] == "rbmed-tgood/push"
    assert entry["norms"] == ["linf", "l2"]
    assert json.loads(invoke("list", "metric", "--json").stdout) == []


def test_names_offered_twice_are_listed_qualified(tmp_path, monkeypatch):
    distribution(tmp_path, "rbmed-tmore", GOOD)
    monkeypatch.setenv("RBMED_PLUGINS", "rbmed-tgood,rbmed-tmore")
    assert "rbmed-tgood/push" in invoke("list").stdout
    fails(invoke("show", "attack/push"), "write rbmed-tgood/push or rbmed-tmore/push")
    assert invoke("show", "attack/rbmed-tmore/push").exit_code == 0


def test_show_describes_parameters_and_origin():
    text = invoke("show", "attack/push").stdout
    for part in ("Adds eps", "rbmed-tgood 1.2", "rbmed_tgood_impl:Push", "int >= 1, <= 9", "Share of eps."):
        assert part in text
    shown = json.loads(invoke("show", "attack/push", "--json").stdout)
    assert shown["params"][0] == {
        "name": "steps",
        "default": 1,
        "required": False,
        "valid": "int >= 1, <= 9",
        "description": "Pushes.",
    }


def test_plugins_shows_loaded_and_broken():
    result = invoke("plugins")
    assert result.exit_code == 0
    assert "1 attack" in result.stdout
    assert "ZeroDivisionError" in result.stdout
    shown = json.loads(invoke("plugins", "--json").stdout)
    assert [p["distribution"] for p in shown["loaded"]] == ["rbmed-tgood"]
    assert [(b["distribution"], b["stage"]) for b in shown["broken"]] == [("rbmed-tdead", "import")]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["lst"], ["No such command 'lst'"]),
        (["--nonsense"], ["No such option"]),
        (["list", "--nonsense"], ["No such option"]),
        (["show", "pushh"], ["no component is called 'pushh'; did you mean attack/push?"]),
        (["show", "attack/psuh"], ["did you mean 'push'?", "rbmed-tdead failed to load (import: ZeroDivisionError"]),
        (["data", "nothing"], ["No such command"]),
        (["-p", "gone.py", "list"], ["gone.py does not exist"]),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(args, parts):
    fails(invoke(*args), *parts)


def test_version_and_help():
    assert invoke("--version").stdout == f"robustbench-med {__version__}\n"
    assert invoke("--help").exit_code == 0
    for command in ("run", "list", "show", "plugins", "train", "data"):
        assert command in invoke("--help").stdout
        assert invoke(command, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("error", "code", "text"), [(KeyboardInterrupt(), 130, "interrupted"), (HarnessError("x"), 1, "x")]
)
def test_interruption_and_harness_errors_have_their_own_codes(monkeypatch, error, code, text):
    def raising(**options: object) -> None:
        raise error

    monkeypatch.setattr("robustbench_med.cli.options.Registry", raising)
    fails(invoke("list"), text, code=code)


def test_data_list_says_where_images_are(plugin, images):
    assert "not set" in invoke("-p", plugin, "data", "list").stdout
    assert invoke("-p", plugin, "data", "register", "folder", images).exit_code == 0
    shown = json.loads(invoke("-p", plugin, "data", "list", "--json").stdout)
    assert {entry["name"]: entry["images"] for entry in shown} == {"folder": str(images), "other": "not set"}


def test_data_show_prints_the_card_and_split_sizes(plugin, images):
    result = invoke("-p", plugin, "data", "show", "folder", "--data-root", images)
    for part in ("Unknown 2020", "CC0", "abc", "images of patients", "[one] note", "calibration"):
        assert part in result.stdout
    shown = json.loads(invoke("-p", plugin, "data", "show", "folder", "--data-root", images, "--json").stdout)
    assert shown["splits"][0] == {
        "split": "train",
        "site": "a",
        "patients": 2,
        "images": 2,
        "classes": {"no": 0, "yes": 2},
    }
    fails(invoke("-p", plugin, "data", "show", "folder"), "--data-root", "RBMED_DATA", "rbmed data register folder")


def test_data_check_reports_problems_with_exit_code_1(plugin, images):
    clean = invoke("-p", plugin, "data", "check", images, "--dataset", "folder")
    assert (clean.exit_code, clean.stdout) == (0, f"{images}, read as folder: no problems\n")
    images.joinpath("a.png").touch()
    result = invoke("-p", plugin, "data", "check", images, "--dataset", "folder")
    assert result.exit_code == 1
    assert result.stdout == f"{images / 'a.png'} is empty\n"
    assert "1 problem" in result.stderr


def test_data_check_by_name_uses_the_registered_folder(plugin, images):
    register_root("folder", images)
    assert invoke("-p", plugin, "data", "check", "folder").exit_code == 0


def test_data_check_guesses_the_layout_and_says_what_else_fits(plugin, images, tmp_path):
    fails(invoke("-p", plugin, "data", "check", tmp_path / "nowhere"), "nowhere is not a folder")
    done = invoke("-p", plugin, "data", "check", images)
    assert done.exit_code == 0
    assert "note: it could also be read as other; --dataset chooses" in done.output
    assert "read as folder: no problems" in done.output
    fails(invoke("-p", plugin, "data", "check", tmp_path), "no data set can read", "has no marker")


def test_data_register_refuses_what_cannot_be_used(plugin, images, tmp_path):
    fails(invoke("-p", plugin, "data", "register", "folder", tmp_path / "nowhere"), "is not a folder")
    fails(invoke("-p", plugin, "data", "register", "fodler", images), "did you mean 'folder'?")


@pytest.mark.parametrize("name", ["images.zip", "images.tar.gz", "IMAGES.7z"])
def test_an_archive_is_to_be_unpacked(plugin, tmp_path, name):
    archive = tmp_path / name
    archive.write_bytes(b"PK")
    unpack = "it is an archive: unpack it, and name the folder"
    fails(invoke("-p", plugin, "data", "check", archive), "is not a folder or a file that a data set reads", unpack)
    fails(invoke("-p", plugin, "data", "register", "folder", archive), "is not a folder", unpack)
    with pytest.raises(DataError, match=unpack):
        data_root("folder", archive)


def test_data_root_order(tmp_path, monkeypatch):
    for name in ("given", "given/lgg", "variable", "registered"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="--data-root FOLDER, set RBMED_DATA=FOLDER, or run 'rbmed data register lgg"):
        data_root("lgg")
    register_root("lgg", tmp_path / "registered")
    register_root('other "set"', tmp_path / "given")
    assert data_root("lgg") == tmp_path / "registered"
    assert data_root('other "set"') == tmp_path / "given"
    monkeypatch.setenv("RBMED_DATA", str(tmp_path / "variable"))
    assert data_root("lgg") == tmp_path / "variable"
    assert data_root("rbmed-datasets/lgg", tmp_path / "given") == tmp_path / "given" / "lgg"
    assert data_root("lgg", tmp_path / "given" / "lgg") == tmp_path / "given" / "lgg"
    with pytest.raises(DataError, match=r"--data-root .*nowhere is not a folder"):
        data_root("lgg", tmp_path / "nowhere")
    monkeypatch.delenv("RBMED_DATA")
    (tmp_path / "registered").rmdir()
    with pytest.raises(DataError, match=r"folder registered for 'lgg' .* is not a folder"):
        data_root("lgg")


def test_home_and_a_damaged_roots_file(tmp_path, monkeypatch):
    assert home() == tmp_path / "home"
    home().mkdir()
    home().joinpath("data-roots.toml").write_text("lgg = 3\n")
    with pytest.raises(BadConfig, match=r"data-roots.toml"):
        data_root("lgg")
    monkeypatch.delenv("RBMED_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "robustbench-med"


def test_progress_in_a_pipe_is_one_line_at_each_end(capsys):
    with RichProgress().task("training [a]", 100) as task:
        for _ in range(100):
            task.advance(note="loss 0.1")
    first, last = capsys.readouterr().err.splitlines()
    assert first == "training [a]: 100 steps"
    assert last.startswith("training [a]: done, 100 of 100 in ")
    assert last.endswith("loss 0.1")


def test_progress_that_is_cut_short_says_so(capsys):
    def work() -> None:
        with RichProgress().task("work", 3) as task:
            task.advance()
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        work()
    assert "work: stopped, 1 of 3 in" in capsys.readouterr().err


def test_bars_nest_and_stay_on_a_terminal(capsys):
    progress = RichProgress(Console(force_terminal=True, width=100))
    with progress.task("outer", 2) as outer:
        for _ in range(2):
            with progress.task("inner", 3) as inner:
                inner.advance(3, "fast")
            outer.advance()
    with progress.task("after", 1) as after:
        after.advance()
    final = capsys.readouterr().out
    assert final.count("outer") >= 1
    assert "2/2" in final
    assert "fast" in final
    assert "after" in final.rpartition("outer")[2]  # a new display does not draw the old bars again
