"""Artifacts: whole or not at all, digests checked, nothing but safetensors."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from robustbench_med.defenses.artifact import (
    MANIFEST,
    Artifact,
    digest_tensors,
    load_state,
    save_state,
    seal,
)
from robustbench_med.errors import WeightsError
from robustbench_med.files.atomic import new_folder, write_text


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A checksummed folder with one weights file."""
    with new_folder(tmp_path / "artifact") as draft:
        save_state(draft / "classifier.safetensors", {"w": torch.randn(64, 64), "n": torch.tensor(3)})
        seal(draft, {"clients": ["a"]})
    return tmp_path / "artifact"


def test_large_tensors_are_kept_in_half_precision_and_come_back_as_float32(tmp_path: Path) -> None:
    state = {"w": torch.rand(64, 64), "b": torch.rand(64), "n": torch.tensor(3)}
    save_state(tmp_path / "x.safetensors", state)
    back = load_state(tmp_path / "x.safetensors")
    assert back["w"].dtype == torch.float32
    assert torch.equal(back["w"], state["w"].half().float())
    assert torch.equal(back["b"], state["b"])
    assert back["n"] == 3
    assert (tmp_path / "x.safetensors").stat().st_size < 64 * 64 * 2 + 1000


def test_an_untouched_artifact_opens(artifact: Path) -> None:
    assert Artifact(artifact).clients == ("a",)
    assert set(Artifact(artifact).state("classifier")) == {"w", "n"}


def test_corrupt_weights_are_named(artifact: Path) -> None:
    file = artifact / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(WeightsError, match=r"classifier\.safetensors are corrupt"):
        Artifact(artifact)


def test_the_digest_is_that_of_the_tensors_and_not_of_the_file(artifact: Path) -> None:
    before, file = Artifact(artifact).digest, artifact / "classifier.safetensors"
    state = load_file(file)
    save_file(dict(reversed(state.items())), file, metadata={"written by": "something else"})
    assert Artifact(artifact).digest == before
    for other in ({**state, "n": torch.tensor(4)}, {**state, "n": torch.tensor(3.0)}, {**state, "m": torch.tensor(3)}):
        save_file(other, file)
        with pytest.raises(WeightsError, match=r"classifier\.safetensors are corrupt"):
            Artifact(artifact)
    save_file({**state, "w": state["w"].reshape(32, 128)}, file)
    with pytest.raises(WeightsError, match=r"classifier\.safetensors are corrupt"):
        Artifact(artifact)


def test_the_canonical_form_is_what_safetensors_writes(tmp_path: Path) -> None:
    """Digests of files from before tensors were digested stay valid."""
    kinds = (
        *(torch.int64, torch.float64, torch.float32, torch.int32, torch.bfloat16, torch.float16),
        *(torch.int16, torch.int8, torch.uint8, torch.bool),
    )
    state = {f'{name}{kind}é"': torch.ones(3, 2).to(kind) for name in "ba" for kind in kinds}
    file = tmp_path / "x.safetensors"
    save_file(state | {"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.0)}, file)
    assert digest_tensors(file) == hashlib.blake2b(file.read_bytes(), digest_size=32).hexdigest()
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="not in safetensors format"):
        digest_tensors(file)


def test_missing_weights_and_missing_manifest_are_named(artifact: Path, tmp_path: Path) -> None:
    (artifact / "classifier.safetensors").unlink()
    with pytest.raises(WeightsError, match="do not exist although the manifest lists them"):
        Artifact(artifact)
    with pytest.raises(WeightsError, match="train them with `rbmed train`"):
        Artifact(tmp_path / "nowhere")


def test_pickles_are_refused_and_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "boom").touch, ())

    path = tmp_path / "classifier.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match="corrupt or not in safetensors format"):
        load_state(path)
    assert not (tmp_path / "boom").exists()


def test_a_manifest_cannot_reach_outside_its_folder(artifact: Path) -> None:
    manifest = json.loads((artifact / MANIFEST).read_text())
    manifest["files"]["../secret"] = "0"
    write_text(artifact / MANIFEST, json.dumps(manifest))
    with pytest.raises(WeightsError, match="outside its folder"):
        Artifact(artifact)


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def interrupted(target: Path) -> None:
        with new_folder(target) as draft:
            (draft / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_keeps_the_old_folder(artifact: Path) -> None:
    before = Artifact(artifact).digest
    with pytest.raises(RuntimeError), new_folder(artifact):
        raise RuntimeError
    assert Artifact(artifact).digest == before
