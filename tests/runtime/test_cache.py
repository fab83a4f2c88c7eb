"""What cells have in common is made once, and never taken for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.grids import lines, run, trained
from helpers.paths import HELPERS
from torch import Tensor

from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.files import checksummed
from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.cache import SharedResults, stamp


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path / "home"))
    return trained()


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of a deployed system decided on."""
    calls: list[int] = []
    decide = Pipeline.decide

    def counted(self: Pipeline, x: Tensor, *args: Any, **more: Any) -> Any:
        calls.append(len(x))
        return decide(self, x, *args, **more)

    monkeypatch.setattr(Pipeline, "decide", counted)
    return calls


ASKED = {"diagnostics": "off", "attack": ["faulty", "shift"], "eps": ["1/10", "1/20"]}


def test_clean_predictions_are_made_once(toys: Registry, tmp_path: Path, decided: list[int]) -> None:
    run(toys, tmp_path / "a", **ASKED)
    assert len(decided) == 8 + 4 * 8  # clean images once, adversarial ones in each of four cells
    del decided[:]
    run(toys, tmp_path / "b", **ASKED)
    assert len(decided) == 4 * 8
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    del decided[:]
    run(toys, tmp_path / "c", **{**ASKED, "seed": 1, "attack": "shift", "eps": "1/10"})
    assert len(decided) == 2 * 8  # other noise: predictions of their own


def test_what_is_shared_changes_no_record(toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = {"access": ["oblivious", "transfer", "ladder:quick"], "limit": 8}
    run(toys, tmp_path / "a", **access)
    run(toys, tmp_path / "b", **access)
    monkeypatch.setattr(SharedResults, "get", lambda self, what, make: make())
    run(toys, tmp_path / "c", **access)
    assert lines(tmp_path / "a") == lines(tmp_path / "b") == lines(tmp_path / "c")


def test_nothing_is_shared_where_that_was_asked_for(toys: Registry, tmp_path: Path, decided: list[int]) -> None:
    for folder in ("a", "b"):
        run(toys, tmp_path / folder, **ASKED, share=False)
    assert len(decided) == 2 * 4 * (8 + 8)
    assert not (tmp_path / "home" / "shared").exists()


def test_images_for_transfer_serve_every_defense(toys: Registry, tmp_path: Path) -> None:
    counter = tmp_path / "calls"
    asked = {"attack": f"faulty:file={counter}", "access": "transfer", "diagnostics": "off"}
    first = run(toys, tmp_path / "a", **asked, defense=["guarded", "guarded:fpr=0.3", "guarded:detector=certainty"])
    assert [record.status for record in first] == ["ok"] * 3
    assert len(counter.read_text()) == 8
    assert len({record.cell_id for record in first}) == 3
    assert first[0].spent == first[1].spent
    assert first[0].spent.queries_mean == 1


def test_a_damaged_file_is_made_anew(toys: Registry, tmp_path: Path, decided: list[int]) -> None:
    run(toys, tmp_path / "a", **ASKED)
    for path in (tmp_path / "home" / "shared").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-3])
    del decided[:]
    run(toys, tmp_path / "b", **ASKED)
    assert len(decided) == 8 + 4 * 8
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_other_code_shares_nothing(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> tuple[Any, dict[str, Tensor]]:
        made.append("x")
        return {"n": len(made)}, {"t": torch.ones(2)}

    assert SharedResults("code a", tmp_path).get(["what"], make)[0] == {"n": 1}
    assert SharedResults("code a", tmp_path).get(["what"], make)[0] == {"n": 1}
    assert SharedResults("code b", tmp_path).get(["what"], make)[0] == {"n": 2}
    assert SharedResults("code a", tmp_path).get(["else"], make)[0] == {"n": 3}


def test_the_stamp_follows_the_code_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text((HELPERS / "faulty_plugin.py").read_text())
    device = torch.device("cpu")
    before = stamp(Registry(files=[file]), device)
    assert before == stamp(Registry(files=[file]), device)
    file.write_text(file.read_text() + "\n# changed\n")
    assert before != stamp(Registry(files=[file]), device)


def test_a_folder_that_cannot_be_written_to_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert SharedResults("code", tmp_path / "file").get(["what"], lambda: (1, {}))[0] == 1


def test_a_checksummed_file_is_complete_and_current_or_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    checksummed.write(path, checksummed.pack({"x": 1.5}, {"t": torch.arange(3)}), "now", sync=True)
    data = checksummed.read(path, "now")
    assert data is not None
    facts, tensors = checksummed.unpack(data)
    assert facts == {"x": 1.5}
    assert torch.equal(tensors["t"], torch.arange(3))
    assert checksummed.read(path, "then") is None
    assert checksummed.read(tmp_path / "absent", "now") is None
    whole = path.read_bytes()
    for at in (0, 70, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert checksummed.read(path, "now") is None
    path.write_bytes(whole[:-1])
    assert checksummed.read(path, "now") is None
    with pytest.raises(ValueError, match=r".+"):
        checksummed.unpack(b"no JSON\nnothing")
    assert [p.name for p in path.parent.iterdir()] == ["file"]
